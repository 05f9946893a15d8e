"""How readers open files that are not one JSON list: objects, JSON Lines, CSV, and what they name."""

import codecs
import csv
import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from pipeline.sources.base import Bad, read_json
from pipeline.sources.rows import read_text

# Cells hold pictures as base64, and the longest captions of the web.
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


def listed(content: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    """Return the list under a key at the top of an official file.

    Raises:
        DataError: there is none.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(f"no list {key!r}", file=file, fix="take the official file")
    return rows


def json_lines(file: Path) -> Iterator[Any]:
    """Yield the records of a JSON Lines file, one at a time; a broken line is a `Bad` in its place.

    Raises:
        DataError: a gzip file is cut off.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
                if not text.strip():
                    continue
                try:
                    yield orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    yield Bad("broken_json", f"line {number + 1:,} is not JSON: {error}")
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(str(error), file=file, fix="download the file again") from error


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
    """Yield the cells of each row of a CSV file that is not blank.

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


def mentioned(file: Path, key: str) -> list[str]:
    """Return the different texts that a field has in a JSON file, in order, without parsing it."""
    pattern = rb'"%s"\s*:\s*"([^"\\]*)"' % re.escape(key.encode())
    values = re.findall(pattern, file.read_bytes())
    return [value.decode(errors="replace") for value in dict.fromkeys(values)]
