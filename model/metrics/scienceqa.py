"""ScienceQA: the letter of an answer, and accuracy by subject, context and grade.

Sources: haotian-liu/LLaVA, llava/eval/eval_science_qa.py (letters); lupantech/ScienceQA,
tools/evaluate_acc.py (the groups).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from model.metrics.base import Item, Metric, averaged

LETTERS = "ABCDE"
# The dot is any character, as in the script: "The answer is B" has none and is not read.
_SENTENCE = re.compile(r"The answer is ([A-Z]).")


def letter(text: str) -> str | None:
    """Return the letter of an answer.

    >>> letter("B. mitosis"), letter("The answer is B."), letter("The answer is B"), letter("(B)")
    ('B', 'B', None, None)
    """
    if text in tuple(LETTERS):
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = _SENTENCE.findall(text)
    return str(found[0]) if len(found) == 1 else None


def scienceqa(
    prediction: str | int, reference: int | str, *, choices: Sequence[str] | None = None
) -> float:
    """Return 1 where the answer's letter is that of the right choice (its index, or its letter).

    An answer may be the index itself, as in the official tool's files.
    """
    options = LETTERS if choices is None else LETTERS[: len(choices)]
    found = letter(prediction) if isinstance(prediction, str) else None
    index = options.index(found) if found is not None and found in options else -1
    if isinstance(prediction, int):
        index = prediction
    right = LETTERS.index(reference) if isinstance(reference, str) else reference
    return float(index == right)


_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
_MEAN = averaged(
    "scienceqa",
    "ScienceQA accuracy",
    scienceqa,
    extras={"choices": "texts of the choices"},
    by={"subject": "", "grade": ""},
)


def aggregate(items: Iterable[Item], **options: Any) -> dict[str, float]:
    """Return the accuracy over all, and by the official groups: subject, context, grade.

    `context/IMG` is the accuracy over the questions with a picture, which papers report.
    """
    rows = [dict(item) for item in items]
    contexts: dict[str, list[dict[str, Any]]] = {"TXT": [], "IMG": [], "NO": []}
    for row in rows:
        if row.get("grade") is not None:
            row["grade"] = "1-6" if int(str(row["grade"]).removeprefix("grade")) <= 6 else "7-12"
        if row.get("subject") is not None:
            row["subject"] = _SUBJECTS.get(row["subject"], row["subject"])
        if "has_image" in row or "hint" in row:
            hint, image = bool(row.get("hint")), bool(row.get("has_image"))
            # A question with hint and picture counts in both.
            for name, mine in (("TXT", hint), ("IMG", image), ("NO", not hint and not image)):
                if mine:
                    contexts[name].append(row)
    figures = _MEAN.aggregate(rows, **options)
    for name, asked in contexts.items():
        if asked:
            figures[f"context/{name}"] = _MEAN.aggregate(asked, **options)["accuracy"]
    return figures


SCIENCEQA = Metric(
    name="scienceqa",
    title="ScienceQA accuracy",
    score=scienceqa,
    aggregate=aggregate,
    extras={
        "choices": "texts of the choices",
        "subject": "natural science, social science or language science",
        "grade": "grade1 .. grade12",
        "hint": "the hint, or nothing",
        "has_image": "whether the prompt holds a picture",
    },
)
