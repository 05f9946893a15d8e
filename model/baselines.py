"""What an answerer scores that looks at no picture and reads no question: the floor to beat."""

import polars as pl

from catalog import Catalog
from model.benchmarks import Row, benchmark_of

TRAIN = "train"
"""The split that baselines learn from."""


def baseline(catalog: Catalog, source: str) -> str | list[float] | None:
    """Return the constant answer of a source: its most frequent training answer, or its mean box.

    A box is in fractions of the picture's width and height. None: the catalog holds no training
    answers of this source.
    """
    train = catalog.samples().filter(pl.col("source") == source, pl.col("split") == TRAIN)
    return _mean_box(train) if benchmark_of(source).boxes else _most_frequent(train)


def predict(constant: str | list[float] | None, row: Row) -> str | list[float] | None:
    """Return a baseline's answer to a row, a box in pixels of its picture."""
    if constant is None or isinstance(constant, str):
        return constant
    width, height = row["widths"][0], row["heights"][0]
    return [c * side for c, side in zip(constant, (width, height) * 2, strict=True)]


def _most_frequent(train: pl.LazyFrame) -> str | None:
    last = pl.col("messages").list.last()
    counts = (
        train.filter(last.struct.field("role") == "assistant")
        .select(last.struct.field("content").alias("answer"))
        .group_by("answer")
        .len()
        # Ties go to the first in the alphabet: the same catalog gives the same baseline.
        .sort(["len", "answer"], descending=[True, False])
        .head(1)
        .collect()
    )
    return str(counts["answer"][0]) if len(counts) else None


def _mean_box(train: pl.LazyFrame) -> list[float] | None:
    box = pl.col("regions").list.first().struct.field("box")
    sides = (pl.col("widths").list.first(), pl.col("heights").list.first()) * 2
    means = (
        train.filter(pl.col("regions").list.len() > 0, pl.col("n_images") > 0)
        .filter(box.list.len() == 4)
        .select(
            (box.list.get(place) / side).mean().alias(str(place))
            for place, side in enumerate(sides)
        )
        .collect()
        .row(0)
    )
    return None if means[0] is None else [float(value) for value in means]
