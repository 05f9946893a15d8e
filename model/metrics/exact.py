"""Exact match, as OCR-VQA is scored.

Source: QwenLM/Qwen-VL, eval_mm/evaluate_vqa.py, evaluate_exact_match_accuracy.
"""

from collections.abc import Sequence

from model.metrics.base import averaged
from model.metrics.textvqa import evalai


def exact_match(
    prediction: str, reference: str | Sequence[str], *, evalai_form: bool = False
) -> float:
    """Return 1 where the answer, stripped and in lower case, is one of the references.

    >>> exact_match(" Coffee", ["coffee"]), exact_match("the coffee", ["coffee"])
    (1.0, 0.0)
    """
    references = [reference] if isinstance(reference, str) else reference
    if evalai_form:
        return float(evalai(prediction) in map(evalai, references))
    return float(prediction.strip().lower() in [text.strip().lower() for text in references])


_OPTIONS = {"evalai_form": "as mmf: compared after the EvalAI answer processor"}
EXACT_MATCH = averaged("exact_match", "exact match", exact_match, options=_OPTIONS)
OCRVQA = averaged("ocrvqa", "OCR-VQA accuracy", exact_match, options=_OPTIONS)
