"""How readers open files that are not one list of records: objects, CSV of any size, what a file names."""

import csv
import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from pipeline.sources.base import Bad, read_json, read_rows, rest
from pipeline.sources.rows import read_text

# Cells hold the longest captions of the web; other readers set the same.
csv.field_size_limit(2**31 - 1)


def read_object(file: Path) -> dict[str, Any]:
    """Return a JSON file that is one object.

    Raises:
        DataError: the file is broken, or something else.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DataError(f"a {kind}, not an object", file=file, fix="take the official file")
    return content


def read_list(file: Path) -> list[Any]:
    """Return a JSON file that is a list.

    Raises:
        DataError: the file is broken, or something else.
    """
    content = read_json(file)
    if not isinstance(content, list):
        kind = type(content).__name__
        raise DataError(f"a {kind}, not a list", file=file, fix="take the official file")
    return content


def json_lines(file: Path) -> Iterator[Any]:
    """Yield the records of a JSON Lines file, one at a time; a broken line is a `Bad` in its place.

    Raises:
        DataError: the file is broken as a whole.
    """
    return read_rows(file)


def listed(content: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    """Return the list under a key at the top of an official file.

    Raises:
        DataError: there is none.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(f"no list {key!r}", file=file, fix="take the official file")
    return rows


def read_entries(file: Path) -> Iterator[tuple[object, Any]]:
    """Yield (key, record) of a JSON file of any size that is an object of records.

    Raises:
        DataError: the file is broken.
    """
    for position, row in enumerate(read_rows(file)):
        if not isinstance(row, dict):
            yield f"#{position}", row
        elif "id" in row:
            yield row["id"], rest(row, "id")
        else:
            # Where one of its values is no record, the file comes as a whole.
            yield from row.items()


def csv_rows(file: Path, **dialect: Any) -> Iterator[Any]:
    """Yield the rows of a CSV file with a header, as objects of text.

    A row of more or fewer cells than the header is a `Bad` in its place.

    Raises:
        DataError: the file is not UTF-8, or no CSV.
    """
    lines = csv_cells(file, **dialect)
    header = next(lines, [])
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(header):
            yield Bad("broken_row", f"row {number:,} has {len(cells)} cells, not {len(header)}")
        else:
            yield dict(zip(header, cells, strict=True))


def csv_cells(file: Path, **dialect: Any) -> Iterator[list[str]]:
    """Yield the cells of each row of a CSV file that is not blank; the file may have any size.

    Raises:
        DataError: the file is not UTF-8, or no CSV.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for cells in csv.reader(lines, **dialect):
                if cells:
                    yield cells
    except UnicodeDecodeError:
        read_text(file)  # says the byte
        raise
    except csv.Error as error:
        raise DataError(f"no CSV: {error}", file=file, fix="take the official file") from error


def split_names(file: Path) -> list[str]:
    """Return the splits that the records of a JSON file name; `unknown` if none does."""
    return mentioned(file, "split") or ["unknown"]


def mentioned(file: Path, key: str) -> list[str]:
    """Return the different texts that a field has in a JSON file, in order, without parsing it."""
    if not file.stat().st_size:
        return []
    pattern = rb'"%s"\s*:\s*"([^"\\]*)"' % re.escape(key.encode())
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        values = dict.fromkeys(match[1] for match in re.finditer(pattern, data))
    return [value.decode(errors="replace") for value in values]
