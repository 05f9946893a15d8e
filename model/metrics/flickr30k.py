"""Flickr30k Entities grounding: is a phrase's entity among the first k boxes?

Source: ashkamath/mdetr, datasets/flickr_eval.py.
"""

from collections.abc import Iterable, Sequence

from catalog.errors import UserError
from model.metrics.base import Item, Metric, means, parts
from model.metrics.refcoco import iou
from pipeline.boxes import Box

RANKS = (1, 5, 10)
HIT = 0.5


def merged(boxes: Sequence[Box]) -> Box:
    """Return the box that encloses all.

    >>> merged([(0, 0, 10, 10), (20, 5, 30, 8)])
    (0, 0, 30, 10)
    """
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def flickr30k_recall(
    prediction: Sequence[Box], reference: Sequence[Box], *, k: int = 1, merge: bool = False
) -> float:
    """Return 1 where one of the first k ranked boxes overlaps a true box of the entity by half.

    Boxes are x0, y0, x1, y1 in pixels. `merge` takes the true boxes as one that encloses them.
    """
    true = [merged(reference)] if merge else reference
    return float(any(iou(box, gold) >= HIT for box in prediction[:k] for gold in true))


def aggregate(items: Iterable[Item], *, merge: bool = False) -> dict[str, float]:
    """Return Recall@1, @5 and @10 over all phrases and by phrase type; an item is one phrase.

    Raises:
        UserError: a phrase has no list of predicted boxes, which the script calls an error too.
    """
    scores: dict[str, list[float]] = {"recall@1": []}
    for item in items:
        prediction, reference = parts(item)
        if prediction is None:
            raise UserError(
                "a phrase without prediction", fix="give every phrase its list of ranked boxes"
            )
        types = item.get("phrase_type") or ()
        names = [types] if isinstance(types, str) else types
        for k in RANKS:
            hit = flickr30k_recall(prediction, reference, k=k, merge=merge)
            # A phrase of two types counts in both.
            for name in (f"recall@{k}", *(f"phrase_type/{name}/recall@{k}" for name in names)):
                scores.setdefault(name, []).append(hit)
    return means(scores)


FLICKR30K_RECALL = Metric(
    name="flickr30k_recall",
    title="Flickr30k Entities Recall@1",
    score=flickr30k_recall,
    aggregate=aggregate,
    measure="recall@1",
    extras={"phrase_type": "people, clothing, ...: one, or a list"},
    options={"merge": "MERGED-BOXES: true boxes are one that encloses them"},
)
