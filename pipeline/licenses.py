"""Which licences a recipe allows: by their names, or by patterns such as `CC BY*`."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import polars as pl


def allowed(names: Iterable[str | None], patterns: Sequence[str]) -> list[str]:
    """Return the licences that one of the patterns allows, in any case; none is no licence.

    >>> allowed(["CC BY 4.0", "CC BY-NC 4.0", "MIT", None], ["cc by [0-9]*", "MIT"])
    ['CC BY 4.0', 'MIT']
    """
    known = [name for name in names if name is not None]
    return [name for name in known if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name.casefold(), pattern.casefold())


def licensed(samples: pl.LazyFrame, patterns: Sequence[str]) -> pl.Expr:
    """Return the condition that a sample's licence is allowed."""
    names = samples.select(pl.col("license").unique()).collect()["license"]
    return pl.col("license").is_in(allowed(names, patterns))


def counted(samples: pl.LazyFrame, most: int = 5) -> str:
    """Return how many samples are under which licence, in words, most first."""
    counts = samples.group_by("license").len("samples").collect()
    counts = counts.sort("samples", "license", descending=[True, False])
    words = [f"{name or 'no licence'} ({count:,})" for name, count in counts.head(most).iter_rows()]
    left = len(counts) - most
    return ", ".join([*words, f"{left} more"] if left > 0 else words) or "none"
