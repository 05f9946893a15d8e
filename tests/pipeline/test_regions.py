"""What region readers share: boxes that ingest places, flags, marks, masks, and XML that stays data."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catalog import Catalog
from catalog.errors import DataError
from catalog.ledger import FileHashes
from catalog.record import REGION_MARK, Record, Refusal, Region
from pipeline.boxes import BOXES
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.masks import decode
from pipeline.prompt import conversation
from pipeline.sources import SOURCES, find
from pipeline.sources.base import Bad
from pipeline.sources.refer import read_refs
from pipeline.sources.regions import FRACTIONS, placed, relative_box, segmentation
from pipeline.sources.safe_xml import parse_xml
from pipeline.sources.segments import panoptic_ids, read_colours, read_numbers
from pipeline.sources.spans import marked, outermost
from tests.official import write_picture

patient = settings(deadline=None)
"""A machine under load is slow, not wrong."""

DATA = Path(__file__).parent.parent / "data"


def rows_of(name: str, tmp_path: Path) -> list[dict[str, Any]]:
    """Ingest a fixture and return its rows."""
    ingest(Job(source=name, root=DATA / name), tmp_path)
    return Catalog.open(tmp_path).samples().collect().to_dicts()


def test_boxes_relative_to_the_picture_stand_in_pixels_in_the_catalog(tmp_path: Path) -> None:
    rows = {row["native_id"]: row for row in rows_of("as_v2", tmp_path)}
    # 40 x 30 pixels, padded to 40 x 40: 5 rows above.
    [cup] = rows["a"]["regions"]
    assert cup["box"] == pytest.approx([0, 125 / 999 * 40 - 5, 500 / 999 * 40, 874 / 999 * 40 - 5])
    assert json.loads(cup["extra"])["bbox"] == [0, 125, 500, 874]
    cat = rows["0"]["regions"][2]
    assert cat["box"] == pytest.approx(
        [v / 999 * s for v, s in zip([10, 20, 300, 400], [40, 30] * 2, strict=True)]
    )


def test_fractions_hold_for_a_resized_picture() -> None:
    extra = relative_box([0.1, 0.2, 0.5, 0.9], FRACTIONS)
    region = Region(label="a", box=(10, 16, 50, 72), extra=extra)
    record = Record(source="x", split="y", native_id="1", task="caption", regions=(region,))
    assert placed(record, [(10, 10)]).regions[0].box == (1, 2, 5, 9)
    assert placed(record, []).regions[0].box == (10, 16, 50, 72), "no picture: as it was"


def test_a_conversation_is_written_in_the_convention_it_came_in(tmp_path: Path) -> None:
    row = next(row for row in rows_of("as_v2", tmp_path) if row["native_id"] == "0")
    given = json.loads(row["extra"])["conversations"][1]["value"]
    turns = conversation(row, BOXES["as-v2"])
    assert turns[1].content == given


@patient
@given(st.text(min_size=1, max_size=40), st.lists(st.tuples(st.integers(0, 39), st.integers(1, 9))))
def test_spans_move_with_the_marks_put_in(text: str, at: list[tuple[int, int]]) -> None:
    spans = [(s, min(s + n, len(text))) for s, n in at if s < len(text)]
    kept = outermost(spans)
    found = marked([(*span, [place]) for place, span in enumerate(kept)], text)
    for place, (start, end) in enumerate(kept):
        first, last = found.moved((start, end))
        assert found.text[first:last] == text[start:end]
        assert found.text[last:].startswith(f" <region:{place}>")
    assert len(found.text) == len(text) + sum(len(f" <region:{p}>") for p in range(len(kept)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("mask", "expected polygons or run lengths"),
        ([[1, 2, 3]], "x y pairs"),
        ([[1, 2, None, 4]], "holds None"),
        ([[1, 2, float("inf"), 4]], "not finite"),
        ({"size": [1], "counts": "0"}, "expected 2 numbers"),
        ({"size": [1, 2]}, "'counts' is None"),
    ],
)
def test_a_broken_segmentation_is_refused(value: Any, words: str) -> None:
    with pytest.raises(Bad, match=words):
        segmentation(value)


BOMB = b"""<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>"""
OUTSIDE = b"""<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>"""


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, OUTSIDE.decode().encode("utf-16")])
def test_xml_with_entities_is_refused_unread(text: bytes) -> None:
    with pytest.raises(Bad, match=r"a\.xml declares a document type"):
        parse_xml(text, "a.xml")


def test_broken_xml_is_refused_with_its_place() -> None:
    with pytest.raises(Bad, match=r"a\.xml is not XML: .*line 1"):
        parse_xml(b"<a><b></a>", "a.xml")


def test_a_mask_is_read_by_its_colours_and_a_palette_by_its_numbers(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(numbers)
    image.putpalette([0, 0, 0, 1, 2, 3, 255, 0, 1])
    image.save(tmp_path / "a.png")
    assert read_numbers(tmp_path / "a.png").tolist() == numbers.tolist()
    ids = panoptic_ids(read_colours(tmp_path / "a.png"))
    assert ids.tolist() == [[0, 1 + 2 * 256 + 3 * 65536], [255 + 65536, 1 + 2 * 256 + 3 * 65536]]
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(Bad, match="expected numbers"):
        read_numbers(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    for name, words in (("c.png", "does not decode"), ("d.png", "not there")):
        with pytest.raises(Bad, match=words):
            read_colours(tmp_path / name)


def test_the_masks_of_a_panoptic_picture_are_its_png_to_the_pixel() -> None:
    root = DATA / "coco_panoptic"
    [record, *_] = [r for r in find("coco_panoptic").read(root, "val2017") if isinstance(r, Record)]
    again = np.zeros((30, 40), np.int64)
    for region in record.regions:
        assert region.rle is not None
        again[decode(json.loads(region.rle))] = region.extra["id"]
    png = panoptic_ids(read_colours(root / "annotations/panoptic_val2017/000000000042.png"))
    assert np.array_equal(again, png)


def write_coco(root: Path, images: int, boxes: int) -> None:
    """Write COCO instances whose annotations go round the pictures, as no release sorts them."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(images)
        ],
        "annotations": [
            {"id": n, "image_id": n % images, "category_id": 1, "bbox": [n % 30, 1, 2, 3]}
            for n in range(boxes)
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    root.mkdir(exist_ok=True)
    (root / "instances_val2017.json").write_text(json.dumps(content))


@patient
@given(st.integers(1, 7), st.integers(0, 40))
def test_every_annotation_finds_its_picture_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, images: int, boxes: int
) -> None:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root, images, boxes)
    records = [r for r in find("coco_instances").read(root, "val2017") if isinstance(r, Record)]
    assert [record.native_id for record in records] == [str(i) for i in range(images)]
    for record in records:
        assert [r.extra["id"] for r in record.regions] == list(
            range(int(record.native_id), boxes, images)
        )


@pytest.mark.parametrize(
    "name", ["coco_instances", "lvis", "objects365", "vg_regions", "vg_objects"]
)
def test_a_cut_off_large_file_names_itself_and_the_byte(name: str, tmp_path: Path) -> None:
    for file in (DATA / name).rglob("*.json"):
        place = tmp_path / file.relative_to(DATA / name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(
            file.read_bytes()[:-30] if file.name != "image_data.json" else file.read_bytes()
        )
    source = find(name)
    for split in source.found(tmp_path):
        with pytest.raises(DataError, match=r"not JSON at byte [\d,]+ of [\d,]+"):
            list(source.read(tmp_path, split))


def test_a_mask_that_changed_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "masks"
    write_picture(root / "a" / "b.png", 1)
    with FileHashes(tmp_path) as hashes:
        before = hashes.of(root)
        assert hashes.of(root) == before
        write_picture(root / "a" / "b.png", 2)
        changed = hashes.of(root)
        (root / "a" / "b.png").rename(root / "a" / "c.png")
        assert len({before, changed, hashes.of(root)}) == 3


def test_one_broken_file_of_many_is_refused_alone(tmp_path: Path) -> None:
    for number, text in enumerate(['{"sa_0.jpg": {}}', '{"sa_1.jpg": {', "[]"]):
        (tmp_path / f"sa_{number}.json").write_text(text)
    items = list(find("grand").read(tmp_path, "train"))
    assert [type(item) for item in items] == [Record, Refusal, Refusal]
    assert [item.reason for item in items if isinstance(item, Refusal)] == [
        "broken_json",
        "wrong_type",
    ]


def test_a_ref_of_no_known_split_is_refused_once(tmp_path: Path) -> None:
    root = tmp_path / "refcoco"
    root.mkdir()
    source = DATA / "refcoco" / "refcoco"
    (root / "instances.json").write_bytes((source / "instances.json").read_bytes())
    refs = read_refs(source / "refs(unc).p")
    refs += [{**refs[0], "split": "dev"}, {**refs[0], "split": ["train"]}, 17]
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    refcoco = find("refcoco")
    items = [item for split in refcoco.found(root) for item in refcoco.read(root, split)]
    reasons = [item.reason for item in items if isinstance(item, Refusal)]
    assert reasons.count("unknown_split") == 2
    assert reasons.count("wrong_type") == 1


@pytest.mark.parametrize("name", [s.name for s in SOURCES if s.family == "region"])
def test_every_mark_is_written_in_every_convention(name: str, tmp_path: Path) -> None:
    for row in rows_of(name, tmp_path):
        marks = sum(
            len(match[1].split(","))
            for message in row["messages"]
            for match in REGION_MARK.finditer(message["content"])
        )
        for form in BOXES.values():
            turns = conversation(row, form)
            assert not any(REGION_MARK.search(turn.content) for turn in turns)
            if marks and row["task"] != "grounding":
                written = [form.read(turn.content, 40, 30) for turn in turns]
                assert sum(map(len, written)) >= marks
