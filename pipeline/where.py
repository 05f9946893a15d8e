"""A recipe's `where` and `licenses` -> which rows of the samples an entry wants."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from catalog.errors import UserError
from pipeline.licenses import counted, licensed
from pipeline.mixture import Mixture, Share


def wanted_rows(
    mixture: Mixture, share: Share, samples: Sequence[Path], count: int
) -> NDArray[np.bool_] | None:
    """Return which of the `count` rows of a source's samples files an entry wants; None for all.

    Raises:
        UserError: `where` cannot be read.
    """
    allowed = [names for names in (mixture.licenses, share.licenses) if names is not None]
    if share.where is None and not allowed:
        return None
    rows = _scan(samples)
    conditions = [licensed(rows, names) for names in allowed]
    try:
        if share.where is not None:
            conditions.append(pl.sql_expr(share.where).cast(pl.Boolean))
        wanted = rows.select(pl.all_horizontal(conditions).alias("keep")).collect()
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{mixture.at(share, 'where')}: {share.name}: `where: {share.where}`: {error}",
            fix="write SQL over the columns of `samples`, such as split = 'train'",
        ) from error
    keep = wanted["keep"].fill_null(False).to_numpy()
    if len(keep) == 1:
        # A condition on no column at all is one value for every row.
        keep = np.repeat(keep, count)
    return keep


def _scan(samples: Sequence[Path]) -> pl.LazyFrame:
    source = samples[0].parent.name.removeprefix("source=")
    return pl.scan_parquet(list(samples)).with_columns(pl.lit(source).alias("source"))


def nothing_left(mixture: Mixture, share: Share, samples: Sequence[Path]) -> UserError:
    """Return the error of an entry of which `where` and `licenses` leave no sample."""
    asked = f" where {share.where}" if share.where is not None else ""
    allowed = [name for names in (mixture.licenses, share.licenses) for name in names or ()]
    if not allowed:
        return UserError(
            f"{mixture.at(share)}: {share.name} has no sample{asked}",
            fix="change `where`, or take the entry out",
        )
    wanted = pl.lit(True) if share.where is None else pl.sql_expr(share.where).cast(pl.Boolean)
    folders = groupby(samples, key=lambda file: file.parent)
    held = pl.concat(_scan(list(files)).filter(wanted).select("license") for _, files in folders)
    return UserError(
        f"{mixture.at(share)}: {share.name} has no sample{asked} under {', '.join(allowed)}; "
        f"it has: {counted(held)}",
        fix="allow one of these in `licenses`, or take the entry out",
    )
