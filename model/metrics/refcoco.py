"""Accuracy at IoU 0.5 (RefCOCO, RefCOCO+, RefCOCOg): the first box of the answer counts.

Sources of the box texts: QwenLM/Qwen-VL and OpenGVLab/InternVL evaluate_grounding.py, lmms-eval
refcoco utils, Shikra's box processor, VLMEvalKit.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from catalog.errors import UserError
from model.metrics.base import Item, Metric, means, parts
from pipeline.boxes import BOXES, Box

_QWEN = re.compile(r"\((.*?)\),\((.*?)\)")
_INTERNVL = re.compile(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*")
_PLAIN = r"(-?\d+(?:\.\d+)?)"
_LMMS = re.compile(rf"\[\s*{_PLAIN},\s*{_PLAIN},\s*{_PLAIN},\s*{_PLAIN}\s*\]")
_DIGITS = r"(\d(?:\.\d*)?)"
_SHIKRA = re.compile(rf"\[{_DIGITS},{_DIGITS},{_DIGITS},{_DIGITS}(?:;[\d.,;]*)?\]")
_MINIGPT = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def _qwen(text: str) -> Sequence[float]:
    match = _QWEN.search(text)
    return [float(c) / 999 for point in match.groups() for c in point.split(",")] if match else ()


def _internvl(text: str) -> Sequence[float]:
    match = _INTERNVL.search(text)
    values = [float(value) for value in match.groups()] if match else []
    return values if sum(values) < 4 else [value / 1000 for value in values]


def _pattern(pattern: re.Pattern[str], scale: float = 1.0) -> Callable[[str], Sequence[float]]:
    def read(text: str) -> Sequence[float]:
        match = pattern.search(text)
        return [float(value) / scale for value in match.groups()] if match else ()

    return read


RELATIVE: dict[str, Callable[[str], Sequence[float]]] = {
    "qwen-vl": _qwen,
    "internvl": _internvl,
    "lmms-eval": _pattern(_LMMS),
    "shikra": _pattern(_SHIKRA),
    "minigpt-v2": _pattern(_MINIGPT, 100.0),
}
"""Box text -> fractions of width and height, as each project's script reads its own; no box: empty."""


def _guessed(text: str, width: float, height: float) -> Box | None:
    """Read as VLMEvalKit: the scale is guessed, the box clipped, its corners put in order."""
    values = [float(value) for value in _NUMBER.findall(text)[:4]]
    if len(values) < 4:
        return None
    most = max(map(abs, values))
    if most <= 1000:
        unit = 1.0 if most <= 1.5 else 1000.0
        values = [v * (height if i % 2 else width) / unit for i, v in enumerate(values)]
    xs = sorted(min(max(value, 0.0), width) for value in values[::2])
    ys = sorted(min(max(value, 0.0), height) for value in values[1::2])
    return xs[0], ys[0], xs[1], ys[1]


def _first(text: str, width: float, height: float, box_format: str) -> Box | None:
    """Read a convention without a published script as this project writes it."""
    if box_format not in BOXES:
        known = [*RELATIVE, *(name for name in BOXES if name not in RELATIVE), "vlmevalkit"]
        raise UserError(f"no box format {box_format!r}", fix=f"one of {', '.join(known)}")
    return next(iter(BOXES[box_format].read(text, round(width), round(height))), None)


def read_box(text: str, width: float, height: float, box_format: str = "shikra") -> Box | None:
    """Return the first box of an answer in pixels, None where there is none to read.

    >>> read_box("<box>(0,0),(999,999)</box>", 640, 480, "qwen-vl")
    (0.0, 0.0, 640.0, 480.0)
    """
    if box_format == "vlmevalkit":
        return _guessed(text, width, height)
    if box_format not in RELATIVE:
        return _first(text, width, height, box_format)
    try:
        values = RELATIVE[box_format](text)
    except ValueError:
        return None
    if len(values) != 4:
        return None
    return values[0] * width, values[1] * height, values[2] * width, values[3] * height


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return intersection over union of two boxes, without the +1 of integer pixels.

    >>> round(iou((0, 0, 10, 10), (5, 5, 15, 15)), 6), iou((10, 10, 110, 110), (10, 10, 110, 60))
    (0.142857, 0.5)
    """
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inner = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0


def refcoco(
    prediction: str | Sequence[float],
    reference: Sequence[float],
    *,
    width: float | None = None,
    height: float | None = None,
    box_format: str = "shikra",
    strictly_above: bool = False,
) -> float:
    """Return 1 where the predicted box overlaps the true one with IoU of at least 0.5.

    `prediction` is the answer's text, which needs the picture's width and height, or a box in pixels.
    """
    box: Sequence[float] | None = None
    if not isinstance(prediction, str):
        box = prediction
    elif width is None or height is None:
        raise UserError(
            "a box as text needs the picture's size", fix="give each item `width` and `height`"
        )
    else:
        box = read_box(prediction, width, height, box_format)
    overlap = 0.0 if box is None else iou(box, reference)
    return float(overlap > 0.5 if strictly_above else overlap >= 0.5)


def aggregate(items: Iterable[Item], **options: Any) -> dict[str, float]:
    """Return the accuracy, and the share of answers in which no box could be read."""
    scores: dict[str, list[float]] = {"accuracy": [], "unreadable": []}
    for item in items:
        prediction, reference = parts(item)
        known = {key: item[key] for key in ("width", "height", "box_format") if key in item}
        known |= options
        scores["accuracy"].append(
            0.0 if prediction is None else refcoco(prediction, reference, **known)
        )
        if isinstance(prediction, str):
            place = (known["width"], known["height"], known.get("box_format", "shikra"))
            prediction = read_box(prediction, *place)
        scores["unreadable"].append(float(prediction is None))
    return means(scores)


REFCOCO = Metric(
    name="refcoco",
    title="Acc@IoU0.5",
    score=refcoco,
    aggregate=aggregate,
    extras={
        "width": "picture width in pixels, where the prediction is text",
        "height": "picture height in pixels, where the prediction is text",
        "box_format": f"how the text writes boxes: lmms-eval, vlmevalkit or {', '.join(BOXES)}",
    },
    options={"strictly_above": "as Shikra: IoU > 0.5"},
)
