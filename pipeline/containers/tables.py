"""Cells of Parquet, Arrow and delimited text, read in place by row and column.

Only the row group, record batch or row that holds the cell is in memory.
"""

import ast
import csv
from array import array
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pipeline.containers.cells import picture_bytes, step_into
from pipeline.limits import MAX_BYTES, Refused

GROUP_BYTES = 256 * 1024**2
"""A column chunk up to this size is decoded whole and kept; a larger one is read forward in batches."""
BATCH_ROWS = 32
MAX_LINE = MAX_BYTES * 4 // 3 + 1024**2
"""Longest line of delimited text: a picture in base64 and its question."""


def split_member(member: str) -> tuple[int, str]:
    """Split `17:image.bytes` into record and path.

    Raises:
        Refused: `wrong_member`, it has another form.
    """
    row, colon, path = member.partition(":")
    if not colon or not row.isdecimal() or len(row) > 12:
        raise Refused("wrong_member", f"{member!r} is not RECORD:PATH")
    return int(row), path


def _column(names: list[str], path: str) -> tuple[str, str]:
    """Return the column whose name begins the path, and the rest of the path; the longest name wins."""
    found = [name for name in names if path == name or path.startswith(f"{name}.")]
    if not found:
        raise Refused("missing_file", f"no column for {path!r}; there are {', '.join(names)[:200]}")
    column = max(found, key=len)
    return column, path[len(column) + 1 :]


def _cell(value: Any, path: str) -> Any:
    """Follow a path into an Arrow scalar; only the end becomes a Python value."""
    while path:
        head, _, tail = path.partition(".")
        if isinstance(value, pa.ListScalar | pa.LargeListScalar) and head.isdecimal():
            if value.values is None or int(head) >= len(value.values):
                raise Refused("missing_file", f"nothing at {path!r}")
            value, path = value.values[int(head)], tail
        elif isinstance(value, pa.StructScalar) and head in value.type.names:
            value, path = value[head], tail
        else:
            return step_into(value.as_py(), path)
    return value.as_py()


class Parquet:
    """A Parquet file with its footer and the last column chunk that was read in memory."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
        meta = self._file.metadata
        self._names = self._file.schema_arrow.names
        self._firsts = [
            0,
            *accumulate(meta.row_group(g).num_rows for g in range(meta.num_row_groups)),
        ]
        self._held: tuple[int, str, int, Any] | None = None
        """(row group, column, first row in the group, values)."""
        self._batches: Any = None

    def read(self, member: str) -> bytes:
        """Return the picture at `row:column path`."""
        row, path = split_member(member)
        if row >= self._firsts[-1]:
            raise Refused(
                "missing_file", f"{self._name} has {self._firsts[-1]:,} rows, not {row:,}"
            )
        column, rest = _column(self._names, path)
        group = bisect_right(self._firsts, row) - 1
        value = self._value(group, column, row - self._firsts[group])
        return picture_bytes(_cell(value, rest), f"{self._name}:{member}")

    def _value(self, group: int, column: str, row: int) -> Any:
        held = self._held
        if held and held[:2] == (group, column) and held[2] <= row < held[2] + len(held[3]):
            return held[3][row - held[2]]
        self._held = None
        if self._size(group, column) <= GROUP_BYTES:
            values = self._file.read_row_group(group, columns=[column]).column(0)
            self._held = (group, column, 0, values)
            return values[row]
        return self._forward(group, column, row)

    def _forward(self, group: int, column: str, row: int) -> Any:
        place = (group, column)
        if self._batches is None or self._batches[0] != place or self._batches[1] > row:
            batches = self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column])
            self._batches = (place, 0, batches)
        _, first, batches = self._batches
        for batch in batches:
            last = first + len(batch)
            self._batches = (place, last, batches)
            if row < last:
                self._held = (group, column, first, batch.column(0))
                return batch.column(0)[row - first]
            first = last
        raise Refused("unreadable_file", f"{self._name}: row group {group} is shorter than it says")

    def _size(self, group: int, column: str) -> int:
        chunks = self._file.metadata.row_group(group)
        found = (chunks.column(i) for i in range(chunks.num_columns))
        return sum(
            int(chunk.total_uncompressed_size)
            for chunk in found
            if chunk.path_in_schema == column or chunk.path_in_schema.startswith(f"{column}.")
        )

    def close(self) -> None:
        self._file.close()


class Arrow:
    """An Arrow IPC stream or file, mapped: batches are found once, pages are read when touched."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._map = pa.memory_map(str(path))
        limit = max(4 * path.stat().st_size, 1024**3)
        magic = self._map.read(6)
        self._map.seek(0)
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(self._map)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(self._map))
        self._batches, size = [], 0
        for batch in batches:
            size += batch.nbytes
            if size > limit:
                raise Refused("zip_bomb", f"{self._name} unpacks to more than {limit:,} bytes")
            self._batches.append(batch)
        self._firsts = [0, *accumulate(len(batch) for batch in self._batches)]

    def read(self, member: str) -> bytes:
        """Return the picture at `row:column path`."""
        row, path = split_member(member)
        if row >= self._firsts[-1]:
            raise Refused(
                "missing_file", f"{self._name} has {self._firsts[-1]:,} rows, not {row:,}"
            )
        number = bisect_right(self._firsts, row) - 1
        batch = self._batches[number]
        column, rest = _column(batch.schema.names, path)
        value = batch.column(column)[row - self._firsts[number]]
        return picture_bytes(_cell(value, rest), f"{self._name}:{member}")

    def close(self) -> None:
        self._batches.clear()
        self._map.close()


def text_list(text: str) -> list[str]:
    """Return a list that a cell spells, in JSON or in Python.

    >>> text_list("['a', 'b']")
    ['a', 'b']

    Raises:
        Refused: `wrong_type`, it spells none.
    """
    try:
        value = ast.literal_eval(text) if "'" in text else orjson.loads(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Refused("wrong_type", f"{text[:40]!r} is no list") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Refused("wrong_type", f"{text[:40]!r} is no list of texts")
    return value


class Delimited:
    """A .tsv or .csv with the places of the records it has passed."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._stream = path.open("rb")
        self._dialect = {"delimiter": "\t" if path.suffix.lower() == ".tsv" else ","}
        csv.field_size_limit(2**31 - 1)  # other readers set the same; ours is checked by line
        self._header: list[str] | None = None
        self._places = array("q")
        """Of records, from the first behind the header."""
        self._starts = array("q", [0])
        """Of lines."""
        self._last: tuple[int, list[str]] | None = None

    @property
    def _names(self) -> list[str]:
        if self._header is None:
            self._stream.seek(0)
            names = self._next() or []
            self._places.append(self._stream.tell())
            self._header = [names[0].removeprefix("\ufeff"), *names[1:]] if names else []
        return self._header

    def _next(self) -> list[str] | None:
        return next(csv.reader(self._lines(), **self._dialect), None)  # type: ignore[arg-type]

    def _lines(self) -> Any:
        while line := self._stream.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise Refused(
                    "too_large", f"{self._name} has a line longer than {MAX_LINE:,} bytes"
                )
            yield line.decode()

    def read(self, member: str) -> bytes:
        """Return the picture at `row:column`, or `row:column.2` of a list; the header is no record.

        `row:#2` is the third field of a line of a table without a header, from line 0.
        """
        row, path = split_member(member)
        if path.startswith("#") and path[1:].isdecimal():
            fields, column = self._line(row), int(path[1:])
            if column >= len(fields):
                raise Refused(
                    "missing_file", f"{self._name}, line {row}: {len(fields)} fields only"
                )
            return picture_bytes(fields[column], f"{self._name}:{member}")
        name, _, number = (path, "", "") if path in self._names else path.rpartition(".")
        if name not in self._names:
            raise Refused("missing_file", f"{self._name} has no column {path!r}")
        fields = self._record(row)
        column = self._names.index(name)
        if column >= len(fields):
            raise Refused("missing_file", f"{self._name}, record {row}: {len(fields)} fields only")
        value = step_into(text_list(fields[column]), number) if number else fields[column]
        return picture_bytes(value, f"{self._name}:{member}")

    def _line(self, row: int) -> list[str]:
        known = min(row, len(self._starts) - 1)
        self._stream.seek(self._starts[known])
        for line in self._lines():
            if known + 1 == len(self._starts):
                self._starts.append(self._stream.tell())
            if known == row:
                return str(line).rstrip("\r\n").split(str(self._dialect["delimiter"]))
            known += 1
        raise Refused("missing_file", f"{self._name} has {known:,} lines, not {row:,}")

    def _record(self, row: int) -> list[str]:
        if self._last is not None and self._last[0] == row:
            return self._last[1]
        known = min(row, len(self._places) - 1)
        self._stream.seek(self._places[known])
        while True:
            fields = self._next()
            if fields is None:
                raise Refused("missing_file", f"{self._name} has {known:,} records, not {row:,}")
            if not fields:
                continue  # a blank line is no record
            if known + 1 == len(self._places):
                self._places.append(self._stream.tell())
            if known == row:
                self._last = (row, fields)
                return fields
            known += 1

    def close(self) -> None:
        self._stream.close()
