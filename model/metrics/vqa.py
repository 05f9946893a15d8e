"""VQA accuracy: agreement with ten annotators, each left out in turn (VQAv2, OK-VQA, VizWiz).

Source: GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py.
"""

from collections.abc import Sequence

from model.metrics.base import averaged
from model.metrics.text import normalise, one_line


def leave_one_out(answer: str, references: Sequence[str]) -> float:
    """Return the mean, over the references, of min(1, matches among the others / 3).

    >>> [round(leave_one_out("a", ["a"] * n + ["b"] * (10 - n)), 1) for n in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    same = [reference == answer for reference in references]
    matches = sum(same)
    return sum(min(1.0, (matches - own) / 3) for own in same) / len(same)


def vqa_accuracy(
    prediction: str, reference: Sequence[str], *, always_normalise: bool = False
) -> float:
    """Return the accuracy of an answer, given the (ten) reference answers.

    Where all references are the same text, the script normalises neither side: a prediction in
    upper case is then wrong.

    >>> vqa_accuracy("isnt it", ["isn't it"] * 5 + ["is it"] * 5)
    1.0
    >>> vqa_accuracy("Blue", ["blue"] * 10)
    0.0
    """
    answer, references = one_line(prediction), [one_line(text) for text in reference]
    if always_normalise or len(set(references)) > 1:
        answer, references = normalise(answer), [normalise(text) for text in references]
    return leave_one_out(answer, references)


_TYPES = {
    "question_type": "the official `question_type`",
    "answer_type": "yes/no, number, other (VizWiz also: unanswerable)",
}
_OPTIONS = {"always_normalise": "as lmms-eval, VLMEvalKit and MiniCPM-V: no exact-text gate"}

VQA_ACCURACY = averaged("vqa_accuracy", "VQA accuracy", vqa_accuracy, by=_TYPES, options=_OPTIONS)
OKVQA_ACCURACY = averaged(
    "okvqa_accuracy", "OK-VQA accuracy", vqa_accuracy, by=_TYPES, options=_OPTIONS
)
VIZWIZ_ACCURACY = averaged(
    "vizwiz_accuracy", "VizWiz accuracy", vqa_accuracy, by=_TYPES, options=_OPTIONS
)
