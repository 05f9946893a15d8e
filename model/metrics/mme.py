"""MME: two yes/no questions a picture, 14 subtasks, perception out of 2000 and cognition out of 800.

Source: BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation, eval_tool/calculation.py.
"""

from collections import defaultdict
from collections.abc import Iterable

from catalog.errors import UserError
from model.metrics.base import Item, Metric, parts

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)


def said(text: str) -> str:
    """Return yes, no or other: the whole answer, or else what its first four characters hold.

    >>> said("Yes!"), said("Nothing there"), said("Oh yes"), said("Yeah")
    ('yes', 'no', 'other', 'other')
    """
    text = text.lower()
    if text in ("yes", "no"):
        return text
    head = text[:4]
    return "yes" if "yes" in head else "no" if "no" in head else "other"


def mme(prediction: str, reference: str) -> float:
    """Return 1 where the answer is the reference, Yes or No."""
    return float(said(prediction) == reference.lower())


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return points: `total`, `perception`, `cognition`, and `subtask/<name>` out of 200.

    The two questions of a picture share `image` and follow each other; so do those of a picture that
    comes again. Without `image`, all follow each other.

    Raises:
        UserError: an item without a known `subtask`, or a picture without its two questions.
    """
    scores: dict[str, dict[object, list[float]]] = {}
    counts: defaultdict[str, int] = defaultdict(int)
    for item in items:
        prediction, reference = parts(item)
        subtask = item.get("subtask")
        if subtask not in (*PERCEPTION, *COGNITION):
            raise UserError(
                f"MME has no subtask {subtask!r}", fix=f"one of {', '.join(PERCEPTION + COGNITION)}"
            )
        picture = item.get("image", counts[subtask] // 2)
        counts[subtask] += 1
        score = 0.0 if prediction is None else mme(prediction, reference)
        scores.setdefault(subtask, {}).setdefault(picture, []).append(score)
    points = {name: _points(name, scores[name]) for name in scores}
    perception = sum(points.get(name, 0.0) for name in PERCEPTION)
    cognition = sum(points.get(name, 0.0) for name in COGNITION)
    totals = {"total": perception + cognition, "perception": perception, "cognition": cognition}
    return totals | {f"subtask/{name}": value for name, value in points.items()}


def _points(subtask: str, pictures: dict[object, list[float]]) -> float:
    for picture, scores in pictures.items():
        if len(scores) % 2:
            raise UserError(
                f"MME {subtask}, picture {picture!r}: {len(scores)} questions, expected 2",
                fix="give both questions of each picture",
            )
    questions = [score for scores in pictures.values() for score in scores]
    both = [min(pair) for scores in pictures.values() for pair in _pairs(scores)]
    return 100 * sum(questions) / len(questions) + 100 * sum(both) / len(both)


def _pairs(scores: list[float]) -> list[tuple[float, float]]:
    return list(zip(scores[::2], scores[1::2], strict=True))


MME = Metric(
    name="mme",
    title="MME points",
    score=mme,
    aggregate=aggregate,
    measure="total",
    most=2800.0,
    extras={"subtask": "one of the 14 subtasks", "image": "what a picture's two questions share"},
)
