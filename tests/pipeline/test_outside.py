"""Boxes that leave their picture: what is kept, what is set aside, what is refused, and nothing uncounted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog
from catalog.record import REGION_MARK, ImageRef, Message, Record, Region
from pipeline.boxes import BOXES
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.limits import Refused
from pipeline.outside import settled
from pipeline.prompt import conversation
from pipeline.sources.regions import flags
from tests.official import write_picture

SIZE = ((40, 30),)
GOOD, FAR, OVER = (0.0, 0.0, 9.0, 9.0), (90.0, 0.0, 99.0, 9.0), (30.0, 0.0, 45.0, 9.0)
"""Inside, outside, and over the edge of a picture of 40 x 30."""


def record(*boxes: tuple[float, ...], answer: str | None = None, **fields: Any) -> Record:
    """Return a record of a region a box, named a, b, c; with an answer."""
    asked = Message(role="user", content="<image>\nWhat is there?")
    said = () if answer is None else (Message(role="assistant", content=answer),)
    values: dict[str, Any] = {
        "task": "caption",
        "regions": tuple(
            Region(label="abc"[n % 3], box=box, polygons=((1.0, 2.0, 3.0, 4.0),))  # type: ignore[arg-type]
            for n, box in enumerate(boxes)
        ),
    } | fields
    return Record(
        source="s",
        split="train",
        native_id="7",
        images=(ImageRef(path="a.jpg"),),
        messages=(asked, *said),
        **values,
    )


def test_a_box_may_pass_the_edge_by_rounding() -> None:
    given = record((0, 0, 40.002, 30), GOOD)
    assert settled(given, SIZE) == (given, ())


def test_one_box_outside_is_set_aside_with_a_refusal_and_the_rest_stays() -> None:
    given = record(GOOD, FAR, OVER, GOOD, answer="some words")
    found, [refusal] = settled(given, SIZE)
    assert found.messages == given.messages
    assert [region.box for region in found.regions] == [GOOD, None, OVER, GOOD]
    assert found.regions[1].label == "b"
    assert found.regions[1].extra["set_aside"] == {
        "reason": "box_outside_picture",
        "box": FAR,
        "polygons": ((1.0, 2.0, 3.0, 4.0),),
    }
    assert found.regions[2].extra == {"outside_picture": True}
    assert (refusal.reason, refusal.record) == ("box_outside_picture", "7/region 1")
    assert "'b': box (90.0, 0.0, 99.0, 9.0) on a picture of 40 x 30" in refusal.message


def test_a_number_that_is_not_finite_is_set_aside_and_can_be_stored() -> None:
    found, [refusal] = settled(record(GOOD, (0, 0, float("nan"), 5)), SIZE)
    assert refusal.reason == "bad_box"
    assert found.regions[1].extra["set_aside"]["box"] == "(0, 0, nan, 5)"
    assert found.content_id


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [([FAR], "box_outside_picture"), ([OVER], "box_outside_picture"),
     ([OVER, GOOD, FAR], "box_outside_picture"), ([(0, 0, float("inf"), 1)], "bad_box")],
)  # fmt: skip
def test_where_most_boxes_pass_the_edges_the_picture_is_another(
    boxes: list[tuple[float, ...]], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        settled(record(*boxes, answer="words"), SIZE)
    assert refused.value.reason == reason


def test_where_the_box_is_the_answer_or_the_question_the_record_is_refused() -> None:
    good = record(GOOD, FAR, GOOD)
    asked = Message(role="user", content="<image>\nWhat is <region:0,1>?")
    for wrong in (
        replace(good, task="grounding"),
        replace(good, messages=(asked, Message(role="assistant", content="a cup"))),
        record(GOOD, FAR, GOOD, answer="It is <region:1>."),
        record(GOOD, FAR, GOOD, answer="b: <region:1>"),
    ):
        with pytest.raises(Refused, match="on a picture of 40 x 30"):
            settled(wrong, SIZE)


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("a: <region:0>\nb: <region:1>\nc: <region:2>", "a: <region:0>\nc: <region:2>"),
        ("a: <region:0>\nb: <region:1>", "a: <region:0>"),
        ("a: <region:0,1>\nc: <region:2>", "a: <region:0,1>\nc: <region:2>"),
        ("a <region:0> on b <region:1> by c", "a <region:0> on b by c"),
        (
            "a <region:0> over b <region:1>\nb <region:1> by c <region:2>",
            "a <region:0> over b\nb by c <region:2>",
        ),
    ],
)
def test_an_answer_goes_on_without_the_box(answer: str, left: str) -> None:
    found, refusals = settled(record(GOOD, FAR, GOOD, answer=answer), SIZE)
    assert found.messages[1].content == left
    assert len(refusals) == 1


def test_a_phrase_keeps_its_words_and_the_spans_of_others_hold() -> None:
    text = "a cat <region:0> on b <region:1> and c <region:2>"
    given = record(GOOD, FAR, GOOD, answer=text)
    spans = [(2, 5), (20, 21), (37, 38)]
    regions = [replace(r, span=span) for r, span in zip(given.regions, spans, strict=True)]
    found, _ = settled(replace(given, regions=tuple(regions)), SIZE)
    row = {
        "task": "caption",
        "messages": [
            {"role": m.role, "content": m.content, "loss": None} for m in found.messages
        ],
        "regions": [{"box": r.box, "image": 0, "span": r.span} for r in found.regions],
        "n_images": 1,
        "widths": [40],
        "heights": [30],
    }  # fmt: skip
    said = conversation(row, BOXES["internvl"])[1].content
    box = "<box>[[0, 0, 225, 300]]</box>"
    assert said == f"a <ref>cat</ref>{box} on b and <ref>c</ref>{box}"


def test_a_release_that_flags_its_own_boxes_keeps_them_but_not_as_an_answer() -> None:
    for box, kept in ((OVER, True), (FAR, False)):
        given = record(GOOD, box, GOOD, answer="a: <region:0>\nb: <region:1>")
        first, second, third = given.regions
        flagged = replace(second, extra=flags(box, 40, 30))
        found, refusals = settled(replace(given, regions=(first, flagged, third)), SIZE)
        assert (found.regions[1].box == box, len(refusals) == 0) == (kept, kept)
        unsaid, none = settled(record(box, regions=(flagged,), answer="words"), SIZE)
        assert (unsaid.regions, none) == ((flagged,), ())


corner = st.floats(-200, 200, allow_nan=False)


@given(
    st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=4),
)
def test_every_box_stands_is_counted_or_its_record_is_refused(
    boxes: list[tuple[float, float, float, float]], said: list[int]
) -> None:
    places = [place for place in said if place < len(boxes)]
    answer = "\n".join(["words", *(f"a: <region:{place}>" for place in places)])
    try:
        found, refusals = settled(record(*boxes, answer=answer), SIZE)
    except Refused:
        return
    lost = [place for place, region in enumerate(found.regions) if region.box is None]
    assert [refusal.record for refusal in refusals] == [f"7/region {place}" for place in lost]
    assert {region.box for region in found.regions if region.box} <= set(boxes)
    marks = [int(m) for m in REGION_MARK.findall(found.messages[1].content)]
    assert marks == [place for place in places if place not in lost]


def test_a_page_of_scene_text_keeps_its_other_words_in_the_catalog(tmp_path: Path) -> None:
    root = tmp_path / "lsvt"
    write_picture(root / "train_full_images_0" / "gt_0.jpg", 1)
    lines = [
        {"transcription": text, "illegibility": False, "points": [[x, 1], [x + 5, 1], [x + 5, 9]]}
        for text, x in (("one", 1), ("two", 900), ("three", 8))
    ]
    (root / "train_full_labels.json").write_text(json.dumps({"gt_0": lines}))
    [built] = ingest(Job(source="lsvt", root=root), tmp_path / "catalog")
    assert (built.records, built.refused) == (1, 1)
    catalog = Catalog.open(tmp_path / "catalog")
    [row] = catalog.samples().collect().to_dicts()
    assert row["answers"] == ["one\ntwo\nthree"]
    assert [region["box"] is None for region in row["regions"]] == [False, True, False]
    assert json.loads(row["regions"][1]["extra"])["set_aside"]["box"] == [900, 1, 905, 9]
    [refusal] = catalog.refusals().collect().to_dicts()
    assert (refusal["reason"], refusal["record"]) == ("box_outside_picture", "gt_0/region 1")
    assert catalog.counts() == {"lsvt": {"train_full": (1, 0)}}, (
        "its record was kept, and counts once"
    )
