"""OCRBench: a reference contained in the answer counts; the score is a count out of 1,000.

Source: Yuliang-Liu/MultimodalOCR, OCRBench/example.py.
"""

from collections.abc import Iterable, Sequence

from model.metrics.base import Item, Metric, means, parts

MATHEMATICS = "HME100k"
"""The one part whose answers keep their case and lose their blanks."""


def ocrbench(prediction: str, reference: str | Sequence[str], *, dataset_name: str = "") -> float:
    """Return 1 where a reference is contained in the answer.

    >>> ocrbench('The word is "Exit".', "exit"), ocrbench("$a+B$", "a + B", dataset_name="HME100k")
    (1.0, 1.0)
    """
    references = [reference] if isinstance(reference, str) else reference
    said = _clean(prediction, dataset_name)
    return float(any(_clean(text, dataset_name) in said for text in references))


def _clean(text: str, dataset_name: str) -> str:
    if dataset_name == MATHEMATICS:
        return text.strip().replace("\n", " ").replace(" ", "")
    return text.lower().strip().replace("\n", " ")


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return the share that is right, `right` as the count papers print, and both by type."""
    scores: dict[str, list[float]] = {"accuracy": []}
    for item in items:
        prediction, reference = parts(item)
        name = item.get("dataset_name", "")
        right = 0.0 if prediction is None else ocrbench(prediction, reference, dataset_name=name)
        scores["accuracy"].append(right)
        if (kind := item.get("type")) is not None:
            scores.setdefault(f"type/{kind}", []).append(right)
    counts = {f"right/{name[5:]}": sum(values) for name, values in scores.items() if "/" in name}
    return means(scores) | {"right": sum(scores["accuracy"])} | counts


OCRBENCH = Metric(
    name="ocrbench",
    title="OCRBench",
    score=ocrbench,
    aggregate=aggregate,
    extras={
        "dataset_name": "HME100k has a rule of its own",
        "type": "one of ten, such as Key Information Extraction",
    },
)
