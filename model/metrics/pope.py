"""POPE: does the model see what is not there? Yes/no questions, yes being the positive class.

Source: RUCAIBox/POPE, evaluate.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from model.metrics.base import Item, Metric, means, parts


def says_yes(text: str) -> bool:
    """Return whether an answer counts as yes: all does that has no word `No`, `no` or `not`.

    >>> says_yes("Yes, a cup"), says_yes("I do not see it"), says_yes("A cup isn't visible")
    (True, False, True)
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def pope(prediction: str, reference: str) -> float:
    """Return 1 where the answer counts as the reference, yes or no."""
    return float(says_yes(prediction) == _is_yes(reference))


def _is_yes(reference: str) -> bool:
    return reference.strip().lower() == "yes"


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return the official figures over all items, and by category with the mean F1 of categories.

    A ratio without cases is 0; the script divides by zero there. A missing prediction is an empty
    answer, which the script takes for yes.
    """
    groups: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    pairs = []
    for item in items:
        prediction, reference = parts(item)
        pairs.append((says_yes(prediction or ""), _is_yes(reference)))
        if item.get("category") is not None:
            groups[item["category"]].append(pairs[-1])
    figures = _figures(pairs)
    for name, mine in sorted(groups.items()):
        figures |= {f"category/{name}/{key}": value for key, value in _figures(mine).items()}
    if groups:
        scores = [figures[f"category/{name}/f1"] for name in groups]
        figures["mean_f1"] = sum(scores) / len(scores)
    return figures


def _figures(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    hits = sum(found and wanted for found, wanted in pairs)
    said, wanted = sum(found for found, _ in pairs), sum(wanted for _, wanted in pairs)
    precision, recall = hits / said if said else 0.0, hits / wanted if wanted else 0.0
    return {
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        **means(
            {
                "accuracy": [float(found == wanted) for found, wanted in pairs],
                "yes_ratio": [float(found) for found, _ in pairs],
            }
        ),
        "precision": precision,
        "recall": recall,
    }


POPE = Metric(
    name="pope",
    title="POPE F1",
    score=pope,
    aggregate=aggregate,
    measure="f1",
    extras={"category": "random, popular or adversarial"},
)
