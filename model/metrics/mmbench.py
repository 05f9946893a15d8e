"""MMBench CircularEval: a question counts as right if it is right under every rotation of its choices.

Source: open-compass/VLMEvalKit, the multiple-choice evaluator of May 2024 in exact-matching mode: a
rotation that names no option makes its question wrong, where published figures ask a GPT model.
"""

from collections.abc import Iterable, Mapping

from catalog.errors import UserError
from model.metrics.base import Item, Metric, means, parts
from model.metrics.multiple_choice import mcq

ROTATION = 1_000_000
"""Row `index + k * ROTATION` is rotation k of question `index`."""
GROUPS = ("category", "l2-category")


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return circular accuracy, `vanilla` over the rows as asked first, and circular by category.

    Raises:
        UserError: a row has no index, or a rotation's first row is not there.
    """
    questions: dict[int, dict[int, Item]] = {}
    for item in items:
        parts(item)
        if "index" not in item:
            raise UserError("an item without `index`", fix="give the row's index in the release")
        turn, index = divmod(int(item["index"]), ROTATION)
        questions.setdefault(index, {})[turn] = item
    scores: dict[str, list[float]] = {"accuracy": [], "vanilla": []}
    for index, turns in questions.items():
        if 0 not in turns:
            raise UserError(
                f"rotations of question {index}, and not the question", fix="give all of its rows"
            )
        right = min(map(_right, turns.values()))
        scores["accuracy"].append(right)
        scores["vanilla"].append(_right(turns[0]))
        for group in GROUPS:
            if turns[0].get(group) is not None:
                scores.setdefault(f"{group}/{turns[0][group]}", []).append(right)
    return means(scores)


def _right(item: Mapping[str, object]) -> float:
    prediction, reference = parts(item)
    choices = item.get("choices")
    if not isinstance(choices, Mapping | list | tuple):
        raise UserError(f"an item without `choices`: {sorted(item)}", fix="give the row's options")
    return mcq(prediction or "", reference, choices=choices)


MMBENCH_CIRCULAR = Metric(
    name="mmbench_circular",
    title="MMBench CircularEval",
    score=mcq,
    aggregate=aggregate,
    extras={
        "index": "row's index; rotations are 1,000,000 apart",
        "choices": "texts of the choices, or letter -> text",
        "category": "ability",
        "l2-category": "group of abilities",
    },
)
