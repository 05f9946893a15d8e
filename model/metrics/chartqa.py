"""ChartQA relaxed accuracy: numbers may be off by 5 %.

Source: google-research/pix2struct, pix2struct/metrics.py, relaxed_correctness.
"""

from collections.abc import Sequence

from model.metrics.base import averaged

TOLERANCE = 0.05


def chartqa_relaxed(
    prediction: str, reference: str | Sequence[str], *, swapped: bool = False
) -> float:
    """Return 1 where a reference is met, as a number within 5 % or as the same text in any case.

    >>> chartqa_relaxed("0.48", "50%"), chartqa_relaxed("1,940", "1940"), chartqa_relaxed("0.0", "0")
    (1.0, 0.0, 0.0)
    """
    references = [reference] if isinstance(reference, str) else reference
    pairs = [(text, prediction) if swapped else (prediction, text) for text in references]
    return float(any(_right(*pair) for pair in pairs))


def _right(prediction: str, reference: str) -> bool:
    found, wanted = _number(prediction), _number(reference)
    # A reference of zero has no relative error, and is compared as text.
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= TOLERANCE
    return prediction.lower() == reference.lower()


def _number(text: str) -> float | None:
    """
    >>> _number("50%"), _number("1e3"), _number("$5")
    (0.5, 1000.0, None)
    """
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


CHARTQA_RELAXED = averaged(
    "chartqa_relaxed",
    "ChartQA relaxed accuracy",
    chartqa_relaxed,
    by={"half": "human or augmented"},
    options={"swapped": "as Qwen-VL and InternVL: the 5 % are of the prediction"},
)
