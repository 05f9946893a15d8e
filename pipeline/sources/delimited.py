"""Rows of delimited text files, where a plain split or the usual quoting would be wrong."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from pipeline.sources.base import Bad
from pipeline.sources.rows import read_text

# Cells hold whole reports. The limit belongs to the module; our files are as long as they are.
csv.field_size_limit(2**31 - 1)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without those that are blank at its end.

    Unlike `str.splitlines`, only at line feeds: cells hold other separators.

    >>> lines_of("a\\r\\nb\\u2028c\\n \\n")
    ['a', 'b\\u2028c']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def read_plain(file: Path, delimiter: str) -> list[list[str]]:
    """Return the cells of each line of a file without quoting: a quote is a character.

    Raises:
        DataError: the file is not UTF-8.
    """
    return [line.split(delimiter) for line in lines_of(read_text(file))]


def read_csv(file: Path, **dialect: Any) -> list[list[str]]:
    """Return the cells of each row of a file with quoting; blank rows are none.

    Raises:
        DataError: the file is not UTF-8, or no CSV.
    """
    try:
        rows = csv.reader(io.StringIO(read_text(file), newline=""), **dialect)
        return [row for row in rows if row]
    except csv.Error as error:
        raise DataError(f"no CSV: {error}", file=file, fix="take the official file") from error


def named(rows: list[list[str]]) -> Iterator[dict[str, str] | Bad]:
    """Yield the rows behind a header as objects; one with more or fewer cells is a `Bad`."""
    for cells in rows[1:]:
        if len(cells) != len(rows[0]):
            yield Bad("broken_row", f"{len(cells)} cells, the header has {len(rows[0])}")
        else:
            yield dict(zip(rows[0], cells, strict=True))


def as_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table as a model reads it; a cell's line breaks become spaces.

    >>> as_table([["name", "cats"], ["Ada", "3\\n4"]])
    ['name | cats', 'Ada | 3 4']
    """
    return [" | ".join(" ".join(cell.split("\n")) for cell in row) for row in rows]
