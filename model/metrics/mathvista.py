"""MathVista: what is comparable without a language model as extractor.

Source: lupantech/MathVista, evaluation/extract_answer.py (its quick paths) and calculate_score.py.
Where no quick path applies, published figures ask a language model; give its words as `extraction`.
"""

import re
from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from rapidfuzz.distance import Levenshtein

from catalog.errors import UserError
from model.metrics.base import Item, Metric, means, parts

CHOICE = "multi_choice"
_QUOTED = re.compile(r'The answer is "(.*)"\.')
_LETTER = re.compile(r"\(([a-zA-Z])\)")
GROUPS = (
    "question_type",
    "answer_type",
    "language",
    "source",
    "category",
    "task",
    "context",
    "grade",
)


def extract(
    text: str, *, question_type: str, answer_type: str, choices: Sequence[str] = ()
) -> str | None:
    """Return the answer that a response holds, None where the script would ask a language model.

    >>> extract('So. The answer is "14".', question_type="free_form", answer_type="integer")
    '14'
    """
    if not text or (question_type == CHOICE and text in choices):
        return text
    for kind, number in (("integer", int), ("float", float)):
        if answer_type == kind:
            try:
                return str(number(text))
            except ValueError:
                continue
    found = _QUOTED.search(text)
    return found[1] if found else None


def normal_form(
    extraction: str | None,
    *,
    question_type: str,
    answer_type: str,
    choices: Sequence[str] = (),
    precision: float | None = None,
) -> str | None:
    """Return an answer as references are written; None where it cannot be read.

    >>> normal_form("(c)", question_type="multi_choice", answer_type="text", choices=list("5678"))
    '7'
    >>> normal_form("17.9", question_type="free_form", answer_type="integer")
    '17'
    """
    if extraction is None:
        return None
    if question_type == CHOICE:
        said = extraction.strip()
        if found := _LETTER.search(said):
            said = found[1].upper()
        letters = ascii_uppercase[: len(choices)]
        if len(said) == 1 and said in letters:
            return choices[letters.index(said)]
        # Any text becomes a choice: the nearest, the first of equals.
        return min(choices, key=lambda choice: Levenshtein.distance(said, choice))
    try:
        match answer_type:
            case "integer":
                return str(int(float(extraction)))
            case "float":
                return str(round(float(extraction), int(precision or 0)))
    except (ValueError, OverflowError):
        return None
    return extraction


def mathvista(
    prediction: str,
    reference: str,
    *,
    question_type: str,
    answer_type: str,
    choices: Sequence[str] | None = None,
    precision: float | None = None,
    extraction: str | None = None,
) -> float:
    """Return 1 where the answer's normal form is the reference, to the letter."""
    options = choices or ()
    if extraction is None:
        extraction = extract(
            prediction, question_type=question_type, answer_type=answer_type, choices=options
        )
    found = normal_form(
        extraction,
        question_type=question_type,
        answer_type=answer_type,
        choices=options,
        precision=precision,
    )
    return float(found == reference)


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return accuracy over all and by group, and how many answers no quick path could read."""
    scores: dict[str, list[float]] = {"accuracy": []}
    unread = 0
    for item in items:
        prediction, reference = parts(item)
        if missing := [name for name in ("question_type", "answer_type") if name not in item]:
            raise UserError(
                f"an item without {', '.join(missing)}: {sorted(item)}",
                fix="give each item its problem's fields",
            )
        known = {name: item[name] for name in _SHAPE if name in item}
        right = mathvista(prediction or "", reference, **known)
        if item.get("extraction") is None:
            kinds = {name: known[name] for name in ("question_type", "answer_type")}
            unread += extract(prediction or "", **kinds, choices=known.get("choices") or ()) is None
        scores["accuracy"].append(right)
        for group in GROUPS:
            if item.get(group) is not None:
                scores.setdefault(f"{group}/{item[group]}", []).append(right)
    return means(scores) | {"unread": float(unread)}


_SHAPE = {
    "question_type": "multi_choice or free_form",
    "answer_type": "text, integer, float or list",
    "choices": "texts of the choices",
    "precision": "decimals of a float",
    "extraction": "the answer as a language model read it from the prediction",
}
MATHVISTA = Metric(
    name="mathvista",
    title="MathVista accuracy",
    score=mathvista,
    aggregate=aggregate,
    extras=_SHAPE | dict.fromkeys(GROUPS[2:], "group of the release's metadata"),
)
