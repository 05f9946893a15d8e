"""TextVQA accuracy: the EvalAI answer processor, and annotators left out in turn.

Source: facebookresearch/mmf, mmf/utils/m4c_evaluators.py (equal to LLaVA's m4c_evaluator.py).
"""

from collections.abc import Sequence

from model.metrics.base import averaged
from model.metrics.text import normalise, one_line
from model.metrics.vqa import leave_one_out


def evalai(text: str) -> str:
    """Return an answer as the EvalAI processor leaves it.

    >>> evalai("Wendy's, 1,000 exits?")
    "wendy 's 1000 exits"
    """
    words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise(one_line(words))


def textvqa_accuracy(prediction: str, reference: Sequence[str]) -> float:
    """Return the accuracy of an answer, given the ten reference answers; all are normalised.

    >>> textvqa_accuracy("Seven, Up", ["7 up"] * 6 + ["7up"] * 4)
    1.0
    """
    return leave_one_out(evalai(prediction), [evalai(text) for text in reference])


TEXTVQA_ACCURACY = averaged("textvqa_accuracy", "TextVQA accuracy", textvqa_accuracy)
