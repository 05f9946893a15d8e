"""Lines of text files without quoting, and a table as a model reads it."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.files import csv_rows


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


def tsv_rows(file: Path) -> Iterator[Any]:
    """Yield the rows of a TSV file with a header, as objects; a quote is a character."""
    return csv_rows(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def as_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table as a model reads it; a cell's line breaks become spaces.

    >>> as_table([["name", "cats"], ["Ada", "3\\n4"]])
    ['name | cats', 'Ada | 3 4']
    """
    return [" | ".join(" ".join(cell.split("\n")) for cell in row) for row in rows]
