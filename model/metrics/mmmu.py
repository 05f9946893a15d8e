"""MMMU: options and open answers read by the official parser.

Source: MMMU-Benchmark/MMMU, mmmu/utils/eval_utils.py.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from model.metrics.base import Item, Metric, means, parts
from model.metrics.letters import lettered, right_letter

SEED = 42
"""The script draws a letter for an answer that names none, from a generator seeded at import."""
OPEN = ("open", "short-answer")
"""The release's word for questions without choices, and the script's."""
_ENDS = ",.!?;:'"
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = set(":,.!?;'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine "
    "Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Psychology Sociology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
    "Energy_and_Power Materials Mechanical_Engineering",
}
DISCIPLINE = {
    subject: discipline for discipline, names in _DISCIPLINES.items() for subject in names.split()
}
"""Subject -> discipline."""


def read_choice(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter of the option that an answer names last; None where it names none.

    >>> read_choice("First (A) seemed right but it is (C)", dict.fromkeys("ABCD", "-"))
    'C'
    """
    for mark in _ENDS:
        text = text.strip(mark)
    text = f" {text} "
    for form in ("({})", " {} "):
        said = {letter: text.rfind(form.format(letter)) for letter in options}
        if (latest := _latest(said)) is not None:
            return latest
    if len(text.split()) <= 5:
        return None
    lower = text.lower()
    return _latest({letter: lower.rfind(option.lower()) for letter, option in options.items()})


def _latest(places: Mapping[str, int]) -> str | None:
    found = max(places, key=lambda letter: places[letter])
    return found if places[found] >= 0 else None


def read_open(text: str) -> set[str | float]:
    """Return the strings and numbers that an open answer may mean.

    >>> sorted(map(str, read_open("So the current is 0.75 A")))
    ['0.75', '0.75 a']
    """
    whole = text.strip().strip(".").lower()
    # The script's other split, at sentences, waits for a capital letter: there is none here.
    lines = whole.split("\n")
    tails = [_tail(line, last=place == len(lines) - 1) for place, line in enumerate(lines)]
    said = [tail for tail in tails if tail and tail not in _TRIVIAL] or [whole]
    numbers = [number for tail in said for pattern in _NUMBERS for number in pattern.findall(tail)]
    return {value for found in (*said, *numbers) for value in normal_forms(found)}


def _tail(line: str, *, last: bool) -> str:
    """Return the shortest text behind an indicator's last place, with the script's accidents."""
    shortest = ""
    for key in (*_KEYS, "=") if last else _KEYS:
        if key in line:
            tail = line.split(key)[-1].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def normal_forms(text: str) -> list[str | float]:
    """Return a text as a number of two decimals, or in lower case; one letter stands beside a blank.

    >>> normal_forms("1,250"), normal_forms("A"), normal_forms("Vanitas")
    ([1250.0], [' a', 'a '], ['vanitas'])
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def mmmu(
    prediction: str,
    reference: str | int | Sequence[str],
    *,
    choices: Sequence[str] | Mapping[str, str] = (),
    question_type: str = "multiple-choice",
    chance: random.Random | None = None,
) -> float:
    """Return 1 where the parsed answer is right; `chance` draws where no option is named."""
    if question_type in OPEN:
        wanted = [str(reference)] if isinstance(reference, str | int | float) else reference
        forms = [form for text in wanted for form in normal_forms(text)]
        return float(any(_met(found, forms) for found in read_open(prediction)))
    options = lettered(choices)
    said = read_choice(prediction, options)
    if said is None and chance is not None:
        said = chance.choice(list(options))
    rights = [reference] if isinstance(reference, str | int) else reference
    return float(said in [right_letter(right, options) for right in rights])


def _met(found: str | float, forms: Sequence[str | float]) -> bool:
    if isinstance(found, float):
        return found in forms
    return any(isinstance(form, str) and form in found for form in forms)


def aggregate(items: Iterable[Item], *, guess: bool = True) -> dict[str, float]:
    """Return the accuracy over all, by subject and by discipline, and how often chance answered.

    Letters are drawn in the order of the items, as the script does; its figures need its order.
    """
    chance = random.Random(SEED)
    scores: dict[str, list[float]] = {"accuracy": []}
    guessed = 0
    for item in items:
        prediction, reference = parts(item)
        kind = item.get("question_type", "multiple-choice")
        choices = item.get("choices", ())
        if kind not in OPEN:
            guessed += read_choice(prediction or "", lettered(choices)) is None
        right = mmmu(
            prediction or "",
            reference,
            choices=choices,
            question_type=kind,
            chance=chance if guess else None,
        )
        scores["accuracy"].append(right)
        if (subject := item.get("subject")) is not None:
            scores.setdefault(f"subject/{subject}", []).append(right)
            if subject in DISCIPLINE:
                scores.setdefault(f"discipline/{DISCIPLINE[subject]}", []).append(right)
    return means(scores) | {"guessed": float(guessed)}


MMMU = Metric(
    name="mmmu",
    title="MMMU accuracy",
    score=mmmu,
    aggregate=aggregate,
    extras={
        "choices": "texts of the choices, or letter -> text",
        "question_type": "multiple-choice, open or short-answer",
        "subject": "one of 30, such as Art_Theory",
    },
    options={"guess": "False: an answer that names no option is wrong, and nothing is drawn"},
)
