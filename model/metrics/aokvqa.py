"""A-OKVQA: direct answers and multiple choice.

Source: allenai/aokvqa, evaluation/eval_predictions.py.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from model.metrics.base import Item, Metric, averaged


def direct(prediction: str, reference: Sequence[str]) -> float:
    """Return min(1, equal direct answers / 3): raw texts, nobody left out.

    >>> direct("kayaking", ["kayaking"] * 4), direct("Rowing", ["rowing"] * 2)
    (1.0, 0.0)
    """
    return min(1.0, list(reference).count(prediction) / 3)


def choice(prediction: str, reference: str | int, *, choices: Sequence[str] = ()) -> float:
    """Return 1 where the predicted choice, as text, is the right one (its text, or its index)."""
    right = choices[reference] if isinstance(reference, int) else reference
    return float(prediction == right)


_ALL = averaged("aokvqa_direct", "A-OKVQA direct answer", direct)


def aggregate(items: Iterable[Item], **options: Any) -> dict[str, float]:
    """Return the mean over the questions whose direct answer is not marked difficult."""
    easy = (item for item in items if not item.get("difficult_direct_answer"))
    return _ALL.aggregate(easy, **options)


AOKVQA_DIRECT = Metric(
    name="aokvqa_direct",
    title="A-OKVQA direct answer",
    score=direct,
    aggregate=aggregate,
    extras={"difficult_direct_answer": "true leaves the question out"},
)
AOKVQA_CHOICE = averaged(
    "aokvqa_choice",
    "A-OKVQA multiple choice",
    choice,
    extras={"choices": "texts of the choices, where the reference is an index"},
)
