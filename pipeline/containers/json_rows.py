"""Pictures as base64 text in JSON records, read forward; the last records are kept."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from pipeline.bad import Bad
from pipeline.containers.cells import picture_bytes, step_into
from pipeline.containers.tables import split_member
from pipeline.json_file import read_rows
from pipeline.limits import Refused


class JsonRows:
    """A JSON file of records, any shape that `read_rows` knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: Iterator[Any] = read_rows(path)
        self._next = 0
        self._last: tuple[int, Any] | None = None

    def read(self, member: str) -> bytes:
        """Return the picture at `record:key path`."""
        row, path = split_member(member)
        value = self._record(row)
        if isinstance(value, Bad):
            raise Refused(value.reason, f"{self._path.name}, record {row}: {value.message}")
        return picture_bytes(step_into(value, path), f"{self._path.name}:{member}")

    def _record(self, row: int) -> Any:
        if self._last is not None and self._last[0] == row:
            return self._last[1]
        if row < self._next:
            self.close()
            self._rows, self._next = read_rows(self._path), 0
        try:
            for value in islice(self._rows, row - self._next, None):
                self._next, self._last = row + 1, (row, value)
                return value
        except DataError as error:
            raise Refused("unreadable_file", str(error)) from error
        self._next = row + 1
        raise Refused("missing_file", f"{self._path.name} has no record {row:,}")

    def close(self) -> None:
        getattr(self._rows, "close", lambda: None)()
