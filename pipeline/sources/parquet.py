"""Rows of Parquet files, read in batches: the text, and references to the pictures beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import DataError
from catalog.record import ImageRef
from pipeline.sources.base import relative

BATCH = 1_000
"""Rows in memory together, without their pictures."""


def parquet_rows(root: Path, file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file; each picture, a struct of bytes and path, as its `ImageRef`.

    Picture bytes are not read. The path that such a struct holds stays in the row, under the
    column's name with `.path`.

    Raises:
        DataError: the file is broken.
    """
    name = relative(file, root)
    with _opened(file) as opened:
        leaves = _leaves(opened)
        text = [
            leaf.path for leaf in leaves if leaf.physical_type != "BYTE_ARRAY" or _is_text(leaf)
        ]
        pictures = {leaf.path.split(".")[0] for leaf in leaves if leaf.path.endswith(".bytes")}
        for position, row in enumerate(_rows(opened, text)):
            yield _referred(row, name, position, pictures)


def read_parquet(
    file: Path, *, without: Sequence[str] = (), batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as they are, without these columns; `batch` of them in memory.

    Raises:
        DataError: the file is broken.
    """
    with _opened(file) as opened:
        yield from _rows(
            opened, [leaf.path for leaf in _leaves(opened) if leaf.path not in without]
        )


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"no whole Parquet file: {error}", file=file, fix="download the file again"
        ) from error


def _leaves(opened: pq.ParquetFile) -> list[Any]:
    return [opened.schema.column(i) for i in range(len(opened.schema))]


def _rows(
    opened: pq.ParquetFile, columns: list[str], batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    for rows in opened.iter_batches(batch_size=batch, columns=columns):
        yield from rows.to_pylist()


def columns_of(file: Path) -> set[str]:
    """Return the names of a file's columns; none where it is no whole Parquet file."""
    try:
        return set(pq.read_schema(file).names)
    except (OSError, ValueError, pa.ArrowException):
        return set()


def _is_text(leaf: Any) -> bool:
    return "STRING" in str(leaf.logical_type.type) or leaf.converted_type == "UTF8"


def _referred(row: dict[str, Any], file: str, position: int, pictures: set[str]) -> dict[str, Any]:
    for column in pictures & set(row):
        value, place = row[column], f"{position}:{column}"
        if isinstance(value, list):
            row[column] = [
                None if item is None else ImageRef(path=file, member=f"{place}.{number}.bytes")
                for number, item in enumerate(value)
            ]
            paths = [None if item is None else item.get("path") for item in value]
            given: Any = paths if any(paths) else None
        elif value is not None:
            row[column] = ImageRef(path=file, member=f"{place}.bytes")
            given = value.get("path")
        else:
            given = None
        if given:
            row[f"{column}.path"] = given
    return row
