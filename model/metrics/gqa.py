"""GQA accuracy by question type, and the distance of answer distributions.

Source: the evaluation script of the GQA site; answers are cleaned as LLaVA does before it.
"""

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from catalog.errors import UserError
from model.metrics.base import Item, Metric, averaged, parts

_SMALL = ("exist", "query: name", "choose name")
"""Program steps that hold one of these are not counted."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, cleaning: str = "llava") -> str:
    """Return a prediction as a harness compares it.

    >>> clean("Wooden."), clean("It is a wooden table", "qwen-vl"), clean("The cat of Ann", "qwen-vl")
    ('wooden', 'wooden table', 'cat')
    """
    if cleaning == "llava":
        return text.rstrip(".").lower()
    if cleaning == "qwen-vl":
        return _qwen(text)
    if cleaning == "lmms-eval":
        return text.strip().lower().translate(_PUNCTUATION)
    raise UserError(f"no cleaning {cleaning!r}", fix="one of llava, qwen-vl, lmms-eval")


def _qwen(text: str) -> str:
    text = text.strip().split(".")[0].split(",")[0].split("!")[0].lower()
    for word in ("is ", "are ", "a ", "an ", "the "):
        if word in text:
            text = text.split(word)[1]
    if " of" in text:
        text = text.split(" of")[0]
    return text.strip()


def gqa(prediction: str, reference: str, *, cleaning: str = "llava") -> float:
    """Return 1 where the cleaned answer is the reference."""
    answer = clean(prediction, cleaning)
    if cleaning == "qwen-vl":
        return float(answer == reference.lower())
    if cleaning == "lmms-eval":
        return float(answer == reference.lower().translate(_PUNCTUATION))
    return float(answer == reference)


def program_steps(semantic: Iterable[Mapping[str, Any]]) -> int:
    """Return how many steps of a question's program count.

    >>> program_steps([{"operation": "select", "argument": "cat"}])
    1
    """
    steps = [f"{step['operation']}: {step['argument']}" for step in semantic]
    return sum(not any(small in step for small in _SMALL) for step in steps)


_TYPES = dict.fromkeys(("kind", "structural", "semantic", "steps", "words"), "")
_MEAN = averaged("gqa", "GQA accuracy", gqa, by=_TYPES)


def aggregate(items: Iterable[Item], **options: Any) -> dict[str, float]:
    """Return the accuracy over balanced questions, by type, and the distribution (less is better)."""
    balanced = [dict(item) for item in items if item.get("is_balanced", True)]
    golds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    cleaning = options.get("cleaning", "llava")
    for item in balanced:
        prediction, reference = parts(item)
        if item.get("structural") is not None:
            item["kind"] = "open" if item["structural"] == "query" else "binary"
        if "program" in item:
            item["steps"] = program_steps(item["program"])
        if "question" in item:
            item["words"] = len(item["question"].split())
        if item.get("group") is not None:
            golds[item["group"]][reference] += 1
            found[item["group"]][clean(prediction or "", cleaning)] += 1
    figures = _MEAN.aggregate(balanced, **options)
    if golds:
        weighted = sum(golds[group].total() * _chi(golds[group], found[group]) for group in golds)
        figures["distribution"] = weighted / sum(gold.total() for gold in golds.values()) / 100
    return figures


def _chi(gold: Counter[str], found: Counter[str]) -> float:
    return sum((found[answer] - count) ** 2 / count for answer, count in gold.items())


GQA = Metric(
    name="gqa",
    title="GQA accuracy",
    score=gqa,
    aggregate=aggregate,
    extras={
        "is_balanced": "the official isBalanced; false leaves the question out",
        "structural": "the official types.structural",
        "semantic": "the official types.semantic",
        "program": "the official semantic steps: a list with operation and argument",
        "question": "its text, for the number of words",
        "group": "the official groups.global, or null",
    },
    options={"cleaning": "llava (default), qwen-vl or lmms-eval"},
)
