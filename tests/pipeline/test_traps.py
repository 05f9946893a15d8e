"""Traps of official releases: what looks like data and is not, and answers nobody could give."""

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import DataError
from catalog.record import Record, Refusal, Region
from pipeline.checks import check_record
from pipeline.sources import find
from pipeline.sources.regions import placed, relative_box
from tests.official import write_vqav2

DATA = Path(__file__).parent.parent / "data"


def read(name: str, root: Path, split: str) -> list[Record]:
    items = list(find(name).read(root, split))
    assert all(isinstance(item, Record) for item in items), items
    return [item for item in items if isinstance(item, Record)]


def write(root: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def question(**fields: Any) -> dict[str, Any]:
    return {"question": "What?", "question_id": 1, "questionId": 1} | fields


TESTS = {
    "textvqa": ("TextVQA_0.5.1_test.json", question(image_id="ab")),
    "docvqa": ("test_v1.0.json", question(image="documents/a_1.png")),
    "infographicvqa": ("infographicsVQA_test_v1.0.json", question(image_local_name="1.jpeg")),
    "stvqa": ("test_task_3.json", question(file_path="a.jpg")),
}


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("answers", ["missing", None, [], ""])
def test_an_answer_that_a_test_split_hides_is_null_however_it_is_hidden(
    name: str, answers: Any, tmp_path: Path
) -> None:
    file, row = TESTS[name]
    given = row if answers == "missing" else row | {"answers": answers}
    [record] = read(name, write(tmp_path, {file: {"data": [given]}}), "test")
    assert record.answers is None
    assert [message.role for message in record.messages] == ["user"]
    check_record(record)


def vqa(given: list[str], chosen: str | None) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "question_id": 1,
        "answers": [{"answer": answer, "answer_id": n} for n, answer in enumerate(given)],
    }
    if chosen is not None:
        annotation["multiple_choice_answer"] = chosen
    return {
        "val_questions_vqa_format.json": {
            "questions": [{"question_id": 1, "image_id": "ab", "question": "What?"}]
        },
        "val_annotations_vqa_format.json": {"annotations": [annotation]},
    }


@pytest.mark.parametrize(
    ("given", "chosen", "learnt"),
    [
        (["a", "b", "b"], "a", "b"),
        (["a", "b", "b", "a"], "b", "b"),
        (["a", "b", "b", "a"], "a", "a"),
        (["a", "b", "b"], None, "b"),
        (["a", "b"], "normalised", "normalised"),
    ],
)
def test_a_re_export_whose_chosen_answer_is_the_first_teaches_the_most_frequent(
    given: list[str], chosen: str | None, learnt: str, tmp_path: Path
) -> None:
    [record] = read("vqav2", write(tmp_path, vqa(given, chosen)), "val")
    assert record.messages[1].content == learnt
    assert record.answers == tuple(given)


def test_blanks_around_a_caption_are_kept_and_not_learnt(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 42, "file_name": "000000000042.jpg"}],
        "annotations": [{"id": 1, "image_id": 42, "caption": " A cat. \n"}],
    }
    [record] = read("coco_captions", write(tmp_path, {"captions_val2017.json": content}), "val2017")
    assert record.messages[1].content == "A cat."
    assert record.answers == (" A cat. \n",)


def test_what_is_asked_of_a_table_that_is_not_there_is_not_learnt(tmp_path: Path) -> None:
    tabfact = {"1.html.csv": [["ada have 3 cats"], [1], "cats"]}
    wtq = "id\tutterance\tcontext\ttargetValue\nnt-1\twho?\tcsv/200-csv/7.csv\tAda\n"
    write(tmp_path, {"tokenized_data/train_examples.json": tabfact, "data/training.tsv": wtq})
    for name, split in (("tabfact", "train"), ("wikitablequestions", "training")):
        [record] = read(name, tmp_path, split)
        assert [message.loss for message in record.messages] == [None, False]
    whole = read("wikitablequestions", DATA / "wikitablequestions", "pristine-unseen-tables")
    assert all(message.loss is None for record in whole for message in record.messages)


def test_letters_that_evaluations_draw_into_a_diagram_are_said_where_they_are(
    tmp_path: Path,
) -> None:
    root = Path(shutil.copytree(DATA / "ai2d", tmp_path / "ai2d"))
    source = find("ai2d")
    [first, second] = [r for r in source.read(root, "train") if isinstance(r, Record)][:2]
    assert first.messages[0].content == (
        "<image>\nLetters in the diagram: A is at <region:0>.\n"
        "What does A show?\nA. cat\nB. dog\nC. mat\nD. sun"
    )
    assert "Letters" not in second.messages[0].content
    shutil.rmtree(root / "ai2d/annotations")
    [first, second] = [r for r in source.read(root, "train") if isinstance(r, Record)][:2]
    assert (first.messages[1].loss, second.messages[1].loss) == (False, None)


def test_clevrs_pictures_lie_in_a_folder_a_split_and_the_generators_in_one(tmp_path: Path) -> None:
    row = {"image_filename": "a.png", "question_index": 1, "question": "?", "answer": 1}
    official = write(
        tmp_path / "official",
        {"CLEVR_v1.0/questions/CLEVR_val_questions.json": {"questions": [row]}},
    )
    own = write(tmp_path / "own", {"CLEVR_questions.json": {"questions": [row]}})
    [record] = read("clevr", official, "val")
    assert record.images[0].path == "CLEVR_v1.0/images/val/a.png"
    [record] = read("clevr", own, "generated")
    assert record.images[0].path == "images/a.png"


def test_a_complementary_pair_is_said_by_both_its_questions(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path, questions=4)
    pairs = root / "v2_mscoco_train2014_complementary_pairs.json"
    pairs.write_text("[[0, 1001]]")
    records = read("vqav2", root, "train")
    partners = {r.native_id: r.extra.get("complementary_question_id") for r in records}
    assert partners == {"0": 1001, "1": None, "1000": None, "1001": 0}
    pairs.write_text("[[0, 1, 2]]")
    with pytest.raises(DataError, match="no pair of questions"):
        read("vqav2", root, "train")


def test_docowls_mark_is_a_picture_and_not_text(tmp_path: Path) -> None:
    row = {
        "image": ["a.jpg"],
        "messages": [
            {"role": "user", "content": "<|image|>What?"},
            {"role": "assistant", "content": "A cat"},
        ],
        "task_name": "qa_sft",
    }
    [record] = read("llava", write(tmp_path, {"train.jsonl": row}), "train")
    assert record.messages[0].content == "<image>What?"
    assert record.extra == {"task_name": "qa_sft", "placeholder": "<|image|>"}


def test_blanks_of_a_table_read_as_those_of_the_question(tmp_path: Path) -> None:
    files = {
        "data/training.tsv": "id\tutterance\tcontext\ttargetValue\n"
        "nt-1\twho?\tcsv/200-csv/7.csv\tAda B\n",
        "csv/200-csv/7.tsv": "Name\nAda\u00a0B\n",
    }
    [record] = read("wikitablequestions", write(tmp_path, files), "training")
    assert record.messages[0].content == "Name\nAda B\nwho?"
    assert record.extra["table"] == "Name\nAda\u00a0B\n"


def test_members_of_a_shard_may_be_packed(tmp_path: Path) -> None:
    def shard(members: dict[str, bytes]) -> list[Record | Refusal]:
        with tarfile.open(tmp_path / "train-0000.tar", "w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return list(find("webdataset").read(tmp_path, "train"))

    said = json.dumps({"question": "What?", "answer": "A cat"}).encode()
    [record] = shard({"a.jpg": b"", "a.json.gz": gzip.compress(said)})
    assert isinstance(record, Record)
    assert record.messages[0].content == "<image>\nWhat?"
    for members, reason in (
        ({"a.json.gz": gzip.compress(said)[:-4]}, "damaged_member"),
        ({"a.txt": b"A cat", "a.jpg.gz": gzip.compress(b"")}, "packed_picture"),
    ):
        [refusal] = shard(members)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == reason


def test_donuts_questions_are_asked_once_each_and_keep_all_answers(tmp_path: Path) -> None:
    pairs = [("Who?", "Ada"), ("Who?", "Ada E."), ("When?", "1999")]
    truth = {"gt_parses": [{"question": q, "answer": a} for q, a in pairs]}
    row = {"file_name": "image_0.jpg", "ground_truth": json.dumps(truth)}
    [record] = read("synthdog", write(tmp_path, {"train/metadata.jsonl": row}), "train")
    said = [(message.role, message.content) for message in record.messages]
    assert said == [
        ("user", "<image>\nWho?"),
        ("assistant", "Ada"),
        ("user", "When?"),
        ("assistant", "1999"),
    ]
    assert record.extra["gt_parses"] == truth["gt_parses"]


@pytest.mark.parametrize(
    ("numbers", "box", "odd"),
    [
        ([100, 250, 500, 750], [10, 25, 50, 75], {}),
        ([500, 750, 100, 250], [10, 25, 50, 75], {"swapped"}),
        ([100, 250, 1050, 750], [10, 25, 100, 75], {"clipped"}),
        ([1100, 0, 1200, 500], [110, 0, 120, 50], {}),
    ],
)
def test_boxes_written_into_text_are_mended_and_flagged_as_a_models_are(
    numbers: list[float], box: list[float], odd: set[str]
) -> None:
    region = Region(label="mug", box=None, extra=relative_box(numbers, "internvl"))
    given = Record(source="s", split="t", native_id="1", task="conversation", regions=(region,))
    [found] = placed(given, [(100, 100)]).regions
    assert found.box == pytest.approx(box)
    assert set(found.extra) - {"bbox", "convention"} == set(odd)
    assert found.extra["bbox"] == numbers
