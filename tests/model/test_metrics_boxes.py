"""Boxes in answers: read as each project's script reads its own, counted at IoU 0.5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from model.metrics import METRICS
from model.metrics.refcoco import iou, read_box
from pipeline.prompt import BOXES

REFCOCO = METRICS["refcoco"]
SIDE = 1000


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes of whole pixels, at least a fifth of the picture wide and high."""
    x, y = draw(st.integers(0, SIDE - 200)), draw(st.integers(0, SIDE - 200))
    right, bottom = draw(st.integers(x + 200, SIDE)), draw(st.integers(y + 200, SIDE))
    return float(x), float(y), float(right), float(bottom)


@pytest.mark.parametrize(
    ("text", "box_format", "box"),
    [
        ("<box>(100,250),(500,750)</box>", "qwen-vl", (100 / 999, 250 / 999, 500 / 999, 750 / 999)),
        (
            "<box>(100, 250),(500, 750)</box>",
            "qwen-vl",
            (100 / 999, 250 / 999, 500 / 999, 750 / 999),
        ),
        ("<box>(100,250), (500,750)</box>", "qwen-vl", None),
        ("<box>[[100, 250, 500, 750]]</box>", "internvl", (0.1, 0.25, 0.5, 0.75)),
        ("[[0.1, 0.25, 0.5, 0.75]]", "internvl", (0.1, 0.25, 0.5, 0.75)),
        ("[[a, b, c, d]]", "internvl", None),
        ("it is [ 0.1, 0.25,0.5, 0.75]", "lmms-eval", (0.1, 0.25, 0.5, 0.75)),
        ("[0.1 ,0.25,0.5,0.75]", "lmms-eval", None),
        ("[.1,.25,.5,.75]", "lmms-eval", None),
        ("[0.100,0.250,0.500,0.750]", "shikra", (0.1, 0.25, 0.5, 0.75)),
        ("[0.100,0.250,0.500,0.750;0.1,0.1,0.2,0.2]", "shikra", (0.1, 0.25, 0.5, 0.75)),
        ("[0.1, 0.25, 0.5, 0.75]", "shikra", None),
        ("{<10><25><50><75>}", "minigpt-v2", (0.1, 0.25, 0.5, 0.75)),
        ("0.5 0.75 0.1 0.25", "vlmevalkit", (0.1, 0.25, 0.5, 0.75)),
        ("100 250 500 750", "vlmevalkit", (0.1, 0.25, 0.5, 0.75)),
        ("0 0 5000 2000", "vlmevalkit", (0.0, 0.0, 1.0, 1.0)),
        ("no box", "vlmevalkit", None),
        ("", "shikra", None),
    ],
)
def test_a_box_is_read_by_its_own_rule(
    text: str, box_format: str, box: tuple[float, float, float, float] | None
) -> None:
    found = read_box(text, SIDE, SIDE, box_format)
    assert found == (None if box is None else pytest.approx([value * SIDE for value in box]))


@given(boxes(), st.sampled_from(sorted(BOXES)))
def test_what_training_writes_is_read_back_as_a_hit(
    box: tuple[float, float, float, float], name: str
) -> None:
    text = BOXES[name].write(box, SIDE, SIDE)
    place = {"width": SIDE, "height": SIDE, "box_format": name}
    assert REFCOCO.score(text, box, **place) == 1.0
    items = [{"prediction": text, "reference": box, **place}]
    assert REFCOCO.aggregate(items) == {"accuracy": 1.0, "unreadable": 0.0}


@given(boxes(), boxes())
def test_overlap_is_a_fraction_the_same_both_ways(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> None:
    assert 0.0 <= iou(a, b) <= 1.0
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert iou(a, a) == pytest.approx(1.0)


def test_half_is_a_hit_unless_asked_for_more() -> None:
    assert iou((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(0.142857, abs=1e-6)
    half = ((10, 10, 110, 60), (10, 10, 110, 110))
    assert REFCOCO.score(*half) == 1.0
    assert REFCOCO.score(*half, strictly_above=True) == 0.0


def test_an_answer_without_a_box_is_wrong_and_counted() -> None:
    place = {"reference": (0, 0, 10, 10), "width": 10, "height": 10}
    items = [
        {"prediction": "[0.0,0.0,1.0,1.0]", **place},
        {"prediction": "on the left", **place},
        {"prediction": None, **place},
        {"prediction": (0, 0, 10, 9), **place},
    ]
    assert REFCOCO.aggregate(items) == {"accuracy": 0.5, "unreadable": 0.5}


def test_bad_use_is_explained() -> None:
    with pytest.raises(UserError, match="needs the picture's size"):
        REFCOCO.score("[0,0,1,1]", (0, 0, 1, 1))
    with pytest.raises(UserError, match="one of qwen-vl"):
        REFCOCO.score("[0,0,1,1]", (0, 0, 1, 1), width=1, height=1, box_format="quen")
