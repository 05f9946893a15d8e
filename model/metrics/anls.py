"""Average normalised Levenshtein similarity (DocVQA, InfographicVQA, ST-VQA).

Source: the script of the RRC portal, infographicsvqa_eval.py.
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from model.metrics.base import averaged

THRESHOLD = 0.5


def anls(prediction: str, reference: Sequence[str], *, zero_at_half: bool = False) -> float:
    """Return the similarity to the nearest reference, 0 where it is below one half.

    Texts are compared in lower case with blanks collapsed, but the divisor is the longer *raw* text
    in upper case, as in the script.

    >>> anls("Acme Corp", ["acme corporation"]), anls("Q4", ["Q3"]), anls("The total is $45", ["$45"])
    (0.5625, 0.5, 0.0)
    """
    score = 1.0 - min(_distance(prediction, text) for text in reference)
    if score < THRESHOLD or (zero_at_half and score == THRESHOLD):
        return 0.0
    return score


def _distance(prediction: str, reference: str) -> float:
    longer = max(len(prediction.upper()), len(reference.upper()))
    edits = Levenshtein.distance(
        " ".join(prediction.lower().split()), " ".join(reference.lower().split())
    )
    return edits / longer if longer else 0.0


ANLS = averaged(
    "anls",
    "ANLS",
    anls,
    measure="anls",
    by={"question_type": "the official question type"},
    options={"zero_at_half": "as the ST-VQA paper and pix2struct: one half counts 0"},
)
