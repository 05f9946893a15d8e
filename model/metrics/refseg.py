"""Masks of referred objects: gIoU, the mean of the items' IoU, and cIoU, of all their pixels together.

Named as by LISA, https://arxiv.org/abs/2308.00692; two empty masks agree. Masks are COCO's run lengths.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from catalog.errors import UserError
from model.metrics.base import Item, Metric, means, parts
from pipeline.masks import Mask, decode

Rle = Mapping[str, Any] | str
"""`{"size": [height, width], "counts": ...}`, or that as JSON text."""


def refseg(prediction: Rle, reference: Rle) -> float:
    """Return the intersection of two masks over their union.

    >>> whole, half = {"size": [2, 2], "counts": [0, 4]}, {"size": [2, 2], "counts": [0, 2, 2]}
    >>> refseg(half, whole), refseg(whole, whole)
    (0.5, 1.0)
    """
    both, either = _overlap(_mask(prediction), _mask(reference))
    return both / either if either else 1.0


def _overlap(found: Mask, true: Mask) -> tuple[int, int]:
    """Return the pixels of both masks, and of either."""
    if found.shape != true.shape:
        raise UserError(
            f"a mask of {found.shape[::-1]} pixels, its reference of {true.shape[::-1]}",
            fix="give both the size of the picture",
        )
    return int((found & true).sum()), int((found | true).sum())


def _mask(rle: Rle) -> Mask:
    try:
        return decode(json.loads(rle) if isinstance(rle, str) else rle)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"no mask: {rle!r:.80}: {error}", fix='{"size": [height, width], "counts": ...}'
        ) from error


def aggregate(items: Iterable[Item]) -> dict[str, float]:
    """Return cIoU and gIoU; an item without prediction has an empty mask."""
    each: dict[str, list[float]] = {"giou": []}
    both = either = 0
    for item in items:
        prediction, reference = parts(item)
        true = _mask(reference)
        inner, union = _overlap(true & False if prediction is None else _mask(prediction), true)
        each["giou"].append(inner / union if union else 1.0)
        both, either = both + inner, either + union
    return {"ciou": both / either if either else 1.0} | means(each)


REFSEG = Metric(
    name="refseg", title="cIoU of masks", score=refseg, aggregate=aggregate, measure="ciou"
)
