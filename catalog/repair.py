"""Damaged pictures are taken out of the catalog, so that the next ingest stores them again.

A picture that samples refer to and no part holds is missing; survey and verification look for these.
"""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from catalog import tables
from catalog.catalog import Catalog
from catalog.images import Damaged
from catalog.parts import write_part


def take_out(catalog: Path, found: Sequence[Damaged]) -> None:
    """Let the table of pictures be without these rows and files, in one commit.

    Parts are written again without their damaged rows; the old ones stay for the clean-up.

    Raises:
        CuveeError: the catalog cannot be written.
    """
    removed, added = [], []
    for file, damaged in groupby(sorted(found, key=_place), key=lambda each: each.file):
        removed.append(file)
        rows = {each.row for each in damaged}
        rest = None if -1 in rows else _without(file, rows)
        if rest is not None:
            added.append(rest)
    if removed:
        tables.exchange(catalog / "images", removed, added)


def _place(damaged: Damaged) -> tuple[Path, int]:
    return damaged.file, damaged.row


def _without(file: Path, rows: set[int]) -> Path | None:
    """Write a part again without some rows; return its place, or None where nothing is left."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException):
        # Its other columns are damaged too: the whole part is stored again.
        return None
    table = table.filter(pa.array([row not in rows for row in range(len(table))]))
    if not len(table):
        return None
    digest = hashlib.sha256(f"{file.name} {sorted(rows)}".encode()).hexdigest()
    target = file.with_name(f"{digest}.images.parquet")
    write_part(target, table, binary="data")
    return target


def missing(catalog: Catalog, source: str) -> list[str]:
    """Return the ids of pictures that a source's samples refer to and that are not stored."""
    files = catalog.files("samples", source=source)
    if not files:
        return []
    frame = pl.scan_parquet(files).select(pl.col("image_ids").explode()).drop_nulls().unique()
    ids = frame.collect()["image_ids"].sort()
    return ids.filter(pl.Series(catalog.image_store().places(ids) < 0)).to_list()
