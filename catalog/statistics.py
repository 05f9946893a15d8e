"""What a catalog holds, counted by Polars over the columns that are needed."""

from dataclasses import dataclass

import polars as pl

from catalog.catalog import Catalog
from catalog.errors import UserError

SIDES = (0, 224, 336, 448, 672, 1024, 2048, 4096)
"""Edges of the histogram of a picture's longer side, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts of one catalog version."""

    sources: pl.DataFrame
    """A row a source: family, splits, samples, pictures, distinct, shared, turns, characters, ..."""
    refusals: pl.DataFrame
    """source, reason, count."""
    licenses: pl.DataFrame
    """source, license, samples."""
    sides: pl.DataFrame
    """longer side from, to; distinct pictures."""

    @classmethod
    def of(cls, catalog: Catalog, where: str | None = None) -> "Statistics":
        """Count what the catalog holds, or its samples `where` an SQL condition holds.

        Raises:
            UserError: the condition is no SQL over the columns of `samples`.
        """
        samples = catalog.samples()
        try:
            samples = samples if where is None else samples.filter(pl.sql_expr(where))
            rows = samples.select(
                "source",
                "family",
                "split",
                "image_ids",
                "messages",
                "answers",
                "regions",
                "license",
            ).collect()
        except pl.exceptions.PolarsError as error:
            raise UserError(
                f"where {where}: {error}", fix="write SQL over the columns of `samples`"
            ) from error
        pictures = rows.select("source", "image_ids").explode("image_ids").drop_nulls()
        holders = pictures.unique().group_by("image_ids").len("holders")
        distinct = (
            pictures.unique()
            .join(holders, on="image_ids")
            .group_by("source")
            .agg(pl.len().alias("distinct"), (pl.col("holders") > 1).sum().alias("shared"))
        )
        text = pl.col("messages").list.eval(
            pl.element().struct.field("content").str.len_chars(), parallel=True
        )
        counts = (
            rows.group_by("source")
            .agg(
                pl.col("family").first(),
                pl.col("split").unique().sort().str.join(" ").alias("splits"),
                pl.len().alias("samples"),
                pl.col("image_ids").list.len().sum().alias("pictures"),
                pl.col("messages").list.len().mean().alias("turns"),
                text.list.sum().mean().alias("characters"),
                pl.col("answers").list.len().mean().alias("answers"),
                pl.col("regions").list.len().sum().alias("regions"),
            )
            .join(distinct, on="source", how="left")
            .with_columns(pl.col("distinct", "shared").fill_null(0))
            .sort("source")
        )
        licenses = rows.group_by("source", "license").len("samples").sort("source", "license")
        refusals = (
            catalog.refusals()
            .group_by("source", "reason")
            .len("count")
            .sort("source", "reason")
            .collect()
        )
        used = pictures.select("image_ids").unique()
        longer = pl.max_horizontal("width", "height").alias("longer")
        sizes = (
            catalog.images()
            .select("image_id", longer)
            .collect()
            .join(used, left_on="image_id", right_on="image_ids")["longer"]
        )
        ends = (*SIDES[1:], 2**31 - 1)
        sides = pl.DataFrame(
            {
                "from": list(SIDES),
                "to": list(ends),
                "pictures": [
                    int(((sizes >= low) & (sizes < high)).sum())
                    for low, high in zip(SIDES, ends, strict=True)
                ],
            }
        )
        return cls(sources=counts, refusals=refusals, licenses=licenses, sides=sides)
