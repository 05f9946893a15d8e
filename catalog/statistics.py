"""What a catalog holds, counted by Polars over the columns that are needed."""

from dataclasses import dataclass

import polars as pl

from catalog.catalog import Catalog
from catalog.errors import UserError

SIDES = (0, 224, 336, 448, 672, 1024, 2048, 4096)
"""Edges of the histogram of a picture's longer side, in pixels."""
LENGTHS = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Edges of the histogram of a sample's text, in tokens."""
SCRIPTS = (
    "Latin",
    "Han",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Cyrillic",
    "Arabic",
    "Devanagari",
    "Greek",
    "Hebrew",
    "Thai",
)
"""Unicode scripts that texts are told apart by; a language needs a model, a script a look."""
LOOKED_AT = 2_000
"""Samples of a source whose script is looked at, evenly spread."""
HEAD = 400
"""Characters of a text that tell its script."""

_COLUMNS = (
    "sample_id",
    "source",
    "family",
    "split",
    "image_ids",
    "messages",
    "answers",
    "regions",
    "license",
)
_CONTENTS = pl.col("messages").list.eval(pl.element().struct.field("content"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts of one catalog version."""

    sources: pl.DataFrame
    """A row a source: family, splits, samples, pictures, distinct, shared, turns, characters, ..."""
    families: pl.DataFrame
    """A row a family: sources, samples, pictures, distinct."""
    tokens: pl.DataFrame
    """encoder, source, encoded (samples), text, learnt (tokens)."""
    lengths: pl.DataFrame
    """encoder; text tokens from, to; samples."""
    scripts: pl.DataFrame
    """source, script, share of the samples that were looked at."""
    refusals: pl.DataFrame
    """source, reason, count, first: the file, record and message of one of them."""
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
            rows = samples.select(_COLUMNS).collect()
        except pl.exceptions.PolarsError as error:
            raise UserError(
                f"where {where}: {error}", fix="write SQL over the columns of `samples`"
            ) from error
        pictures = rows.select("source", "family", "image_ids").explode("image_ids").drop_nulls()
        lengths = _lengths(catalog, rows)
        return cls(
            sources=_sources(rows, pictures),
            families=_families(rows, pictures),
            tokens=lengths.group_by("encoder", "source")
            .agg(
                pl.len().alias("encoded"),
                pl.col("n_tokens").sum().alias("text"),
                pl.col("n_loss").sum().alias("learnt"),
            )
            .sort("encoder", "source"),
            lengths=_histograms(lengths),
            scripts=_scripts(rows),
            refusals=refused(catalog),
            licenses=rows.group_by("source", "license").len("samples").sort("source", "license"),
            sides=_sides(catalog, pictures),
        )


def refused(catalog: Catalog) -> pl.DataFrame:
    """Count the records that were not taken: source, reason, count, and the first of them in words."""
    words = pl.format("{}, record {}: {}", "file", "record", "message")
    return (
        catalog.refusals()
        .group_by("source", "reason")
        .agg(count=pl.len(), first=words.first())
        .sort("source", "reason")
        .collect()
    )


def _sources(rows: pl.DataFrame, pictures: pl.DataFrame) -> pl.DataFrame:
    used = pictures.select("source", "image_ids").unique()
    holders = used.group_by("image_ids").len("holders")
    distinct = (
        used.join(holders, on="image_ids")
        .group_by("source")
        .agg(pl.len().alias("distinct"), (pl.col("holders") > 1).sum().alias("shared"))
    )
    return (
        rows.group_by("source")
        .agg(
            pl.col("family").first(),
            pl.col("split").unique().sort().str.join(" ").alias("splits"),
            pl.len().alias("samples"),
            pl.col("image_ids").list.len().sum().alias("pictures"),
            pl.col("messages").list.len().mean().alias("turns"),
            _CONTENTS.list.eval(pl.element().str.len_chars()).list.sum().mean().alias("characters"),
            pl.col("answers").list.len().mean().alias("answers"),
            pl.col("regions").list.len().sum().alias("regions"),
        )
        .join(distinct, on="source", how="left")
        .with_columns(pl.col("distinct", "shared").fill_null(0))
        .sort("source")
    )


def _families(rows: pl.DataFrame, pictures: pl.DataFrame) -> pl.DataFrame:
    distinct = pictures.group_by("family").agg(
        pl.len().alias("pictures"), pl.col("image_ids").n_unique().alias("distinct")
    )
    return (
        rows.group_by("family")
        .agg(pl.col("source").n_unique().alias("sources"), pl.len().alias("samples"))
        .join(distinct, on="family", how="left")
        .with_columns(pl.col("pictures", "distinct").fill_null(0))
        .sort("family")
    )


def _lengths(catalog: Catalog, rows: pl.DataFrame) -> pl.DataFrame:
    """Return encoder, source, n_tokens and n_loss of each sample that an encoder has encoded."""
    wanted = rows.select("sample_id")
    frames = [
        pl.scan_parquet(files)
        .select("sample_id", "n_tokens", "n_loss")
        .with_columns(pl.lit(encoder).alias("encoder"), pl.lit(source).alias("source"))
        for encoder in catalog.encoders()
        for source, files in catalog.encoded(encoder).items()
    ]
    if not frames:
        kinds = {
            "encoder": pl.String,
            "source": pl.String,
            "n_tokens": pl.Int32,
            "n_loss": pl.Int32,
        }
        return pl.DataFrame(schema=kinds)
    return pl.concat(frames).collect().join(wanted, on="sample_id", how="semi")


def _histograms(lengths: pl.DataFrame) -> pl.DataFrame:
    frames = [
        _histogram(mine["n_tokens"], LENGTHS, "samples").select(
            pl.lit(encoder).alias("encoder"), pl.all()
        )
        for (encoder,), mine in lengths.group_by("encoder", maintain_order=True)
    ]
    empty = _histogram(pl.Series(dtype=pl.Int32), LENGTHS, "samples").clear()
    return pl.concat(frames) if frames else empty.select(pl.lit("").alias("encoder"), pl.all())


def _scripts(rows: pl.DataFrame) -> pl.DataFrame:
    """Tell the script of some of each source's samples by most of its letters."""
    spread = (pl.len() / LOOKED_AT).ceil().clip(1).cast(pl.Int64).over("source")
    place = pl.int_range(pl.len()).over("source")
    text = _CONTENTS.list.join(" ").str.head(HEAD)
    letters = [pl.col("text").str.count_matches(rf"\p{{{name}}}").alias(name) for name in SCRIPTS]
    most = pl.max_horizontal(SCRIPTS)
    script = pl.coalesce(
        pl.when(pl.col(name) == most, most > 0).then(pl.lit(name)) for name in SCRIPTS
    )
    return (
        rows.filter(place % spread == 0)
        .select("source", text.alias("text"))
        .with_columns(letters)
        .select("source", script.fill_null("none").alias("script"))
        .group_by("source", "script")
        .len()
        .with_columns(share=pl.col("len") / pl.col("len").sum().over("source"))
        .sort(["source", "share", "script"], descending=[False, True, False])
        .select("source", "script", "share")
    )


def _sides(catalog: Catalog, pictures: pl.DataFrame) -> pl.DataFrame:
    used = pictures.select("image_ids").unique()
    longer = pl.max_horizontal("width", "height").alias("longer")
    stored = catalog.images().select("image_id", longer).collect()
    sizes = stored.join(used, left_on="image_id", right_on="image_ids", how="semi")["longer"]
    return _histogram(sizes, SIDES, "pictures")


def _histogram(values: pl.Series, edges: tuple[int, ...], count: str) -> pl.DataFrame:
    """Return from, to and the count of values that are in between; the last bin is open."""
    ends = (*edges[1:], 2**31 - 1)
    counts = [
        int(((values >= low) & (values < high)).sum())
        for low, high in zip(edges, ends, strict=True)
    ]
    return pl.DataFrame({"from": list(edges), "to": list(ends), count: counts})
