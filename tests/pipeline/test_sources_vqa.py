"""What is special in the readers of questions, reasoning and captions, beyond their fixtures."""

import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from catalog import Catalog
from catalog.errors import DataError, UserError
from catalog.record import Record, Refusal
from pipeline.boxes import BOXES
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.peek import peek
from pipeline.prompt import conversation
from pipeline.sources import find
from pipeline.sources.shards import tar_samples
from pipeline.sources.visual7w import place

DATA = Path(__file__).parent.parent / "data"


def items(name: str, root: Path | None = None) -> list[Record | Refusal]:
    source, root = find(name), root or DATA / name
    return [item for split in source.found(root) for item in source.read(root, split)]


def copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(DATA / name, to / name))


@pytest.mark.parametrize(
    ("name", "pictures"),
    [("geoqa", 1), ("unigeo", 2), ("laion", 1), ("laion_coco_ocr", 1), ("coyo", 1), ("m3it", 2)],
)
def test_pictures_inside_official_files_go_into_the_catalog(
    name: str, pictures: int, tmp_path: Path
) -> None:
    ingest(Job(source=name, root=DATA / name), tmp_path)
    refused = sum("refused" in item for item in peek(name, DATA / name))
    assert Catalog.open(tmp_path).images().collect().height == pictures
    assert Catalog.open(tmp_path).samples().collect().height == len(items(name)) - refused


def test_a_question_without_its_annotation_is_refused_in_every_set_of_two_files(
    tmp_path: Path,
) -> None:
    root = copy("okvqa", tmp_path)
    file = root / "mscoco_train2014_annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["question_id"] = 7
    file.write_text(json.dumps(content))
    refused = [
        (item.reason, item.record) for item in items("okvqa", root) if isinstance(item, Refusal)
    ]
    assert refused == [("no_annotation", "426"), ("no_question", "7")]


def test_okvqa_learns_what_people_typed_and_scores_stems() -> None:
    first = items("okvqa")[0]
    assert isinstance(first, Record)
    assert (first.messages[-1].content, first.answers) == ("frying", ("fry", "fry", "fry"))


def test_the_right_choice_of_visual7w_stands_at_every_place_alike() -> None:
    counts = Counter(place(qa_id, 4) for qa_id in range(4000))
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 900


def test_choices_that_are_boxes_are_written_in_the_convention_of_the_recipe() -> None:
    pointing = next(item for item in items("visual7w") if isinstance(item, Record) and item.regions)
    right = pointing.regions[pointing.answer_index or 0]
    assert right.extra == {"box_id": 2}
    row = {
        "task": pointing.task,
        "messages": [
            {"role": m.role, "content": m.content, "loss": m.loss} for m in pointing.messages
        ],
        "regions": [
            {"box": r.box, "image": r.image, "span": r.span, "label": r.label}
            for r in pointing.regions
        ],
        "widths": [8],
        "heights": [6],
        "n_images": 1,
    }
    asked, answered = conversation(row, BOXES["shikra"])
    assert "<region" not in asked.content
    assert answered.content == "D. " + BOXES["shikra"].write(right.box or (0, 0, 0, 0), 8, 6)
    assert answered.content in asked.content


def test_objects_of_vcr_are_marked_where_they_are_named_first() -> None:
    for name in ("vcr", "vcr_qar"):
        for record in items(name):
            if isinstance(record, Record):
                text = record.messages[0].content
                for place, region in enumerate(record.regions):
                    assert region.span is not None
                    start, end = region.span
                    assert text[start:end] == f"{region.label}{place + 1}"
                    assert text[end:].startswith(f"<region:{place}>")
                    assert f"{region.label}{place + 1}" not in text[:start]


def test_annotations_of_vcr_read_without_its_pictures(tmp_path: Path) -> None:
    root = copy("vcr", tmp_path)
    shutil.rmtree(root / "vcr1images")
    records = [item for item in items("vcr", root) if isinstance(item, Record)]
    assert [region.box for record in records for region in record.regions] == [None] * 6


def test_a_caption_without_its_picture_is_kept_and_never_learnt() -> None:
    alone = [i for i in items("laion") if isinstance(i, Record) and i.split == "table"]
    assert [record.images for record in alone] == [()]
    assert [m.loss for record in alone for m in record.messages] == [False]
    assert alone[0].extra["URL"] == "https://e.org/a.jpg"


def test_what_a_shard_lists_and_does_not_hold_is_refused(tmp_path: Path) -> None:
    root = copy("laion", tmp_path)
    with tarfile.open(root / "00000.tar", "w"):
        pass
    refused = Counter(i.reason for i in items("laion", root) if isinstance(i, Refusal))
    assert refused == {"no_caption": 1, "no_sample": 2, "failed_to_download": 1}


def test_members_of_a_shard_that_are_no_neighbours_are_two_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("x/1.jpg", "x/1.seg.png", "x/2.txt", "x/1.txt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
    samples = list(tar_samples(tmp_path / "a.tar"))
    assert [sample.key for sample in samples] == ["x/1", "x/2", "x/1"]
    assert samples[0].names == [("jpg", "x/1.jpg"), ("seg.png", "x/1.seg.png")]
    assert samples[2].row() == {"txt": "hi"}


def test_a_shard_that_is_cut_off_names_itself(tmp_path: Path) -> None:
    root = copy("laion_coco_ocr", tmp_path)
    file = root / "00000.tar.gz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"00000\.tar\.gz: no whole tar"):
        items("laion_coco_ocr", root)


def test_files_of_cocoqa_with_other_line_counts_are_no_set(tmp_path: Path) -> None:
    root = copy("cocoqa", tmp_path)
    (root / "train" / "answers.txt").write_text("red\n\n\n")
    with pytest.raises(DataError, match=r"questions\.txt 2, answers\.txt 3, types\.txt 2"):
        items("cocoqa", root)


def test_a_blank_answer_in_the_middle_does_not_shift_the_lines(tmp_path: Path) -> None:
    root = copy("cocoqa", tmp_path)
    (root / "train" / "answers.txt").write_bytes(b"\r\ntwo\r\n")
    first = items("cocoqa", root)[0]
    assert isinstance(first, Record)
    assert first.messages[-1].content == ""


def test_settings_of_fsvqa_with_a_typo_are_refused(tmp_path: Path) -> None:
    root = copy("fsvqa", tmp_path)
    (root / "fields.json").write_text('{"awnser": "sentence"}')
    with pytest.raises(UserError, match="awnser is not a text under one of id, image"):
        items("fsvqa", root)


def test_pictures_of_choices_stand_at_their_choices() -> None:
    drawn = next(i for i in items("iconqa") if isinstance(i, Record) and len(i.images) == 3)
    assert drawn.messages[0].content == "<image>\nWhich is bigger?\nA. <image>\nB. <image>"
    assert [Path(image.path).name for image in drawn.images] == [
        "image.png",
        "choice_0.png",
        "choice_1.png",
    ]


def test_a_split_that_hides_its_answers_has_none() -> None:
    hidden = {
        name: [i for i in items(name) if isinstance(i, Record) and i.split.startswith(split)]
        for name, split in [
            ("aokvqa", "test"),
            ("clevr", "test"),
            ("coco_captions", "test"),
            ("gqa", "submission"),
            ("m3it", "test"),
            ("textcaps", "test"),
            ("vcr", "test"),
            ("visdial", "test"),
            ("vizwiz", "test"),
        ]
    }
    assert all(hidden.values())
    for records in hidden.values():
        for record in records:
            assert (record.answers, record.answer_index) == (None, None)
            assert record.messages[-1].role == "user"


def test_the_row_of_flickr30ks_table_that_has_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(
        "image_name| comment_number| comment\n"
        "1.jpg| 0| A cat | on a mat .\n"
        "2.jpg| 4   A dog runs .\n"
    )
    first, second = items("flickr30k", tmp_path)
    assert isinstance(first, Record)
    assert (first.native_id, first.messages[-1].content) == ("1.jpg#0", "A cat | on a mat .")
    assert isinstance(second, Refusal)
    assert (second.reason, second.record) == ("broken_row", "line 3")


def test_chinese_captions_lie_on_the_pictures_of_coco(tmp_path: Path) -> None:
    picture = {"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}
    caption = {"id": 1, "image_id": 42, "caption": "一只猫"}
    file = tmp_path / "coco-cn_test.json"
    file.write_text(json.dumps({"images": [picture], "annotations": [caption]}))
    [record] = items("coco_captions", tmp_path)
    assert isinstance(record, Record)
    assert (record.split, record.answers) == ("cn_test", ("一只猫",))
    assert record.images[0].path == "val2014/COCO_val2014_000000000042.jpg"
