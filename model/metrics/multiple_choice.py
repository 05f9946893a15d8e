"""Multiple choice in one pass: any benchmark with lettered options, and AI2D by its own rule.

Sources: open-compass/VLMEvalKit (letters, see `model.metrics.letters`); EvolvingLMMs-Lab/lmms-eval,
tasks/ai2d (AI2D).
"""

import re
from collections.abc import Mapping, Sequence
from string import punctuation

from model.metrics.base import averaged
from model.metrics.letters import infer, lettered, right_letter

_FIRST = re.compile(r"\s*([A-Z])\.")
_NO_PUNCTUATION = str.maketrans("", "", punctuation)


def mcq(
    prediction: str, reference: str | int, *, choices: Sequence[str] | Mapping[str, str] = ()
) -> float:
    """Return 1 where the answer names the right choice, given as its letter or index.

    >>> mcq("It is B) a canoe", "B", choices=["kayak", "canoe"])
    1.0
    """
    options = lettered(choices)
    return float(infer(prediction, options) == right_letter(reference, options))


def ai2d(
    prediction: str,
    reference: str | int,
    *,
    choices: Sequence[str] | Mapping[str, str] = ("", "", "", ""),
    rule: str = "lmms-eval",
) -> float:
    """Return 1 where the answer is the right letter, whatever its case and punctuation.

    >>> [ai2d(text, 1) for text in ("b", "(B)", " B. sun", "B) sun", "The answer is B")]
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    options = lettered(choices)
    right = right_letter(reference, options)
    if rule == "qwen-vl":
        return float(prediction.strip().lower() == options[right].strip().lower())
    if rule == "vlmevalkit":
        return float(infer(prediction, options) == right)
    found = _FIRST.match(prediction)
    said = found[1] if found else prediction
    return float(said.translate(_NO_PUNCTUATION).strip().lower() == right.lower())


_CHOICES = {"choices": "texts of the choices, or letter -> text"}
MCQ = averaged(
    "mcq", "multiple choice accuracy", mcq, extras=_CHOICES, by={"category": "kind of question"}
)
AI2D = averaged(
    "ai2d",
    "AI2D accuracy",
    ai2d,
    extras=_CHOICES,
    options={"rule": "'qwen-vl' compares option texts, 'vlmevalkit' infers letters as `mcq` does"},
)
