"""Large JSON files read in place: the elements of their lists, one at a time, in any order.

A COCO file of several gigabytes holds images and annotations in two long lists. Only where each
element begins and ends is kept in memory, 16 bytes an element; the file itself is mapped.
"""

import codecs
import mmap
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from pipeline.sources.base import Bad

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*:")
WHOLE = ""
"""Name of the list that is the whole file."""
_BLANK = b" \t\r\n,"


@dataclass(slots=True)
class Elements:
    """Where the elements of one list stand."""

    starts: "array[int]" = field(default_factory=lambda: array("q"))
    ends: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.starts)


class Lists:
    """The lists at the top of a JSON object, or the list that a file is, mapped from it."""

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        """Find the elements of the lists of these names.

        Raises:
            DataError: the file is not whole JSON.
        """
        self.file = file
        self.buffer: mmap.mmap | bytes = b""
        if file.stat().st_size:
            with file.open("rb") as stream:
                self.buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.found = _scan(self, set(names))

    def __contains__(self, name: str) -> bool:
        return name in self.found

    def count(self, name: str) -> int:
        """Return the elements of a list.

        Raises:
            DataError: there is no such list.
        """
        if name not in self.found:
            what = f"no list {name!r}" if name else "not a list"
            raise DataError(what, file=self.file, fix="take the official file")
        return len(self.found[name])

    def load(self, name: str, place: int) -> Any:
        """Return one element of a list.

        Raises:
            DataError: it is not JSON.
        """
        elements = self.found[name]
        start, end = elements.starts[place], elements.ends[place]
        data = self.buffer[start:end]
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            try:
                data.decode()
            except UnicodeDecodeError as bad:
                raise DataError(
                    f"not UTF-8 at byte {start + bad.start:,} of {len(self.buffer):,}",
                    file=self.file,
                    fix="download the file again, or convert it to UTF-8",
                ) from bad
            raise self.broken(start + error.pos, error.msg) from error

    def each(self, name: str) -> Iterator[tuple[int, Any]]:
        """Yield place and content of each element of a list, in file order.

        Raises:
            DataError: there is no such list, or an element is not JSON.
        """
        for place in range(self.count(name)):
            yield place, self.load(name, place)

    def broken(self, byte: int, problem: str) -> DataError:
        return DataError(
            f"not JSON at byte {byte:,} of {len(self.buffer):,}: {problem}",
            file=self.file,
            fix="download the file again: it looks cut off or edited",
        )


def _scan(lists: Lists, names: set[str]) -> dict[str, Elements]:
    buffer = lists.buffer
    begin = len(codecs.BOM_UTF8) if buffer[:3] == codecs.BOM_UTF8 else 0
    found: dict[str, Elements] = {}
    depth, level, key, into = 0, 1, None, None
    opened = last = begin
    for match in _TOKEN.finditer(buffer, begin):
        token = match[0]
        if token[0] == 0x22:
            if depth == level == 1:
                key = token if _COLON.match(buffer, match.end()) else None
            continue
        if token in b"{[":
            if depth == 0:
                level = 1 if token == b"{" else 0
            if depth == level:
                name = _text(key) if level else WHOLE
                taken = token == b"[" and name in names
                into = found.setdefault(name, Elements()) if taken else None
                last = match.end()
            elif depth == level + 1 and into is not None:
                opened = match.start()
            depth += 1
            continue
        depth -= 1
        if depth == level + 1 and into is not None:
            _bare(into, buffer, last, opened)
            into.starts.append(opened)
            into.ends.append(match.end())
            last = match.end()
        elif depth == level:
            if into is not None:
                _bare(into, buffer, last, match.start())
            into, key = None, None
        if depth == 0:
            if rest := bytes(buffer[match.end() :]).strip():
                raise lists.broken(match.end(), f"more after its end: {rest[:20]!r}")
            return found
        if depth < 0:
            break
    raise lists.broken(len(buffer), "it ends early")


def _text(key: bytes | None) -> str:
    try:
        return str(orjson.loads(key)) if key is not None else ""
    except orjson.JSONDecodeError:
        return ""


def _bare(into: Elements, buffer: mmap.mmap | bytes, start: int, end: int) -> None:
    """Take what stands between two objects of a list: numbers or words, which are elements too."""
    gap = buffer[start:end]
    if not gap.strip(_BLANK):
        return
    for match in re.finditer(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,"]+', gap, re.DOTALL):
        into.starts.append(start + match.start())
        into.ends.append(start + match.end())


def keyed(rows: Iterator[tuple[int, Any]], key: str) -> Iterator[tuple[int, Any, Any]]:
    """Yield place, id and row; the id of a row without one is a `Bad`."""
    for place, row in rows:
        value = row.get(key) if isinstance(row, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield place, Bad("wrong_type", f"no usable {key!r} in {row!r:.60}"), row
        else:
            yield place, value, row


def table(content: Lists, name: str) -> dict[Any, dict[str, Any]]:
    """Return id -> row of a small list; rows without an id are nobody's, and a list may be missing."""
    if name not in content:
        return {}
    return {key: row for _, key, row in keyed(content.each(name), "id") if not isinstance(key, Bad)}
