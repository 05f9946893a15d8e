"""What a metric is: one rule for one item, and how items become the figures a paper prints.

Scores are fractions in full precision; papers print them times 100.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.errors import UserError

Item = Mapping[str, Any]
"""`prediction` (None if there is none), `reference`, and the metric's extras under their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One benchmark's rule."""

    name: str
    title: str
    """As tables print it."""
    score: Callable[..., float]
    """(prediction, reference, **extras and options) -> score of one item."""
    aggregate: Callable[..., dict[str, float]]
    """(items, **options) -> figures of a set; `measure` is among them."""
    measure: str = "accuracy"
    """Which figure of `aggregate` stands for the whole."""
    most: float | None = None
    """The most it can be, where papers print it as it is; the others are printed times 100."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """What an item holds beside prediction and reference: name -> meaning."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Variants that others publish, off by default: name -> meaning."""


def averaged(
    name: str,
    title: str,
    score: Callable[..., float],
    *,
    measure: str = "accuracy",
    extras: Mapping[str, str] | None = None,
    by: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Metric:
    """Return the metric whose figure is the mean of its item scores, over all and by group.

    `extras` go to `score` where an item has them; `by` name what items are grouped by, and a group's
    mean is called `<by>/<value>`. An item without prediction scores 0 and is counted in `missing`.
    """
    wanted, groups = extras or {}, by or {}

    def aggregate(items: Iterable[Item], **chosen: Any) -> dict[str, float]:
        scores: dict[str, list[float]] = {measure: []}
        missing = 0
        for item in items:
            prediction, reference = parts(item)
            missing += prediction is None
            known = {key: item[key] for key in wanted if key in item} | chosen
            value = 0.0 if prediction is None else score(prediction, reference, **known)
            scores[measure].append(value)
            for key in groups:
                if item.get(key) is not None:
                    scores.setdefault(f"{key}/{item[key]}", []).append(value)
        return means(scores) | ({"missing": float(missing)} if missing else {})

    return Metric(
        name=name,
        title=title,
        score=score,
        aggregate=aggregate,
        measure=measure,
        extras={**wanted, **groups},
        options=options or {},
    )


def parts(item: Item) -> tuple[Any, Any]:
    """Return an item's prediction and reference.

    Raises:
        UserError: one of the two keys is absent.
    """
    try:
        return item["prediction"], item["reference"]
    except KeyError as error:
        raise UserError(
            f"an item without {error.args[0]!r}: {sorted(item)}",
            fix="give each item `prediction` (null if there is none) and `reference`",
        ) from error


def means(scores: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the mean of each list: the first name first, the others sorted.

    Raises:
        UserError: there is nothing to average.
    """
    if not all(scores.values()):
        raise UserError("no items to score", fix="name a split that has answers")
    first, *groups = scores
    return {name: sum(scores[name]) / len(scores[name]) for name in (first, *sorted(groups))}
