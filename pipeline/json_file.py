"""JSON files of any size as a stream of records: arrays, objects of records, lists under a key, lines.

gzip and zstandard are unpacked on the way, whatever the file is called. Memory is that of a few blocks.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from catalog.errors import DataError
from pipeline.bad import Bad
from pipeline.json_scan import BLOCK, Broken, Stream, batches, heads
from pipeline.limits import Refused
from pipeline.unpack import CUT_OFF, open_unpacked

WHOLE = 64 * 1024**2
"""A top-level object up to this size is parsed whole; a larger one is looked through first."""
LIST_KEYS = ("data", "rows", "records", "samples", "examples")
"""Keys under which a file may hold its records as a list of objects."""
LINES = (".jsonl", ".ndjson")

_SPACE = b" \t\r\n"


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: the file is not whole, valid UTF-8 JSON; says the byte.
    """
    with _Reading(file) as stream:
        data = _all(stream).removeprefix(codecs.BOM_UTF8)
        return _whole(data)


def read_rows(file: Path) -> Iterator[Any]:
    """Yield the records of a JSON array, an object of records, a list under a key, or JSON Lines.

    A record that cannot be stored, such as a broken line of JSON Lines, is a `Bad` in its place. Records
    of an object get their key as `id`.

    Raises:
        DataError: the file is broken as a whole.
    """
    with _Reading(file) as stream:
        head = _all(stream, BLOCK)
        data = head.removeprefix(codecs.BOM_UTF8)
        text = data.lstrip(_SPACE)
        skipped = len(head) - len(text)
        if _is_lines(file, text, ended=len(head) < BLOCK):
            yield from _lines(stream, data)
        elif text[:1] == b"[":
            yield from _array(_Joined(text[1:], stream), skipped + 1)
        else:
            data += _all(stream, WHOLE)
            if len(data) < WHOLE:
                yield from _object(data)
            else:
                yield from _large_object(file)


def read_list(file: Path, key: str) -> Iterator[Any]:
    """Yield the records of the list under a key of the top-level object.

    Raises:
        DataError: the file is broken, or has no such list.
    """
    # To the end, so that a file that is cut off is noticed before its first record is taken.
    places = [place for name, place, first in _members(file) if name == key and first == b"["]
    if not places:
        raise DataError(f"no list {key!r}", file=file, fix="take the official file")
    yield from _list_at(file, places[-1])


class _Reading:
    """An unpacked stream; what goes wrong with it becomes a `DataError` that names file and byte."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> IO[bytes]:
        self._stream = open_unpacked(self._file)
        return self._stream

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, Broken):
                raise self._error(error) from error
            if isinstance(error, Refused):
                raise DataError(
                    error.message, file=self._file, fix="is it the right file?"
                ) from error
            if isinstance(error, CUT_OFF):
                fix = "download the file again"
                raise DataError(f"cannot be unpacked: {error}", file=self._file, fix=fix) from error
        finally:
            self._stream.close()

    def _error(self, broken: Broken) -> DataError:
        size = self._size()
        if broken.message == "not UTF-8":
            return DataError(
                f"not UTF-8 at byte {broken.offset:,} of {size:,}",
                file=self._file,
                fix="download the file again, or convert it to UTF-8",
            )
        return DataError(
            f"not JSON at byte {broken.offset:,} of {size:,}: {broken.message}",
            file=self._file,
            fix="download the file again: it looks cut off or edited",
        )

    def _size(self) -> int:
        size = 0
        with open_unpacked(self._file) as stream:
            if stream.seekable():
                return stream.seek(0, 2)
            try:
                while data := stream.read(BLOCK):
                    size += len(data)
            except (*CUT_OFF, Refused):
                return size
        return size


class _Joined:
    """Bytes already read, then the rest of their stream."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def _all(stream: IO[bytes], size: int | None = None) -> bytes:
    """Return the next `size` bytes, or all; a packed stream gives them in pieces."""
    parts, count = [], 0
    while (size is None or count < size) and (
        data := stream.read(BLOCK if size is None else size - count)
    ):
        parts.append(data)
        count += len(data)
    return b"".join(parts)


def _is_lines(file: Path, text: bytes, *, ended: bool) -> bool:
    """Tell JSON Lines by the first line: it is a whole value, and others follow."""
    first, newline, rest = text.partition(b"\n")
    if not newline and not ended:
        return any(suffix in LINES for suffix in file.suffixes[-2:]) and text[:1] == b"{"
    if any(suffix in LINES for suffix in file.suffixes[-2:]):
        return first.strip() not in (b"[", b"{") and (text[:1] != b"[" or _is_json(first))
    return bool(rest.strip()) and _is_json(first)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _lines(stream: Stream, data: bytes) -> Iterator[Any]:
    held: list[bytes] = []
    while data:
        first, newline, rest = data.partition(b"\n")
        held.append(first)
        if newline:
            *lines, last = rest.split(b"\n")
            for line in (b"".join(held), *lines):
                if line.strip():
                    yield _line(line)
            held = [last]
        data = stream.read(BLOCK)
    line = b"".join(held)
    if line.strip():
        yield _line(line)


def _line(line: bytes) -> Any:
    try:
        return _value(line, 0)
    except Broken as error:
        return Bad("broken_json", f"this line is not JSON: {error.__cause__ or error.message}")


def _array(stream: Stream, offset: int, *, more_follows: bool = False) -> Iterator[Any]:
    first = True
    for batch in batches(stream, offset, b"[", more_follows=more_follows):
        blank = not batch.data.strip()
        if blank and first and batch.last:
            return
        first = False
        try:
            # Blank data are an element that is missing: the slow way says where.
            yield from orjson.loads(b"[" + (b"?" if blank else batch.data) + b"]")
        except orjson.JSONDecodeError:
            yield from (_value(element, place) for element, place in batch.elements())


def _value(data: bytes, offset: int) -> Any:
    """Parse a record; text with half a character (a lone surrogate) cannot be stored: a `Bad`.

    Raises:
        Broken: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        value = _parse(data, offset, error)
    try:
        orjson.dumps(value)
    except TypeError as error:
        return Bad("broken_text", f"this record cannot be stored: {error}")
    return value


def _parse(data: bytes, offset: int, error: orjson.JSONDecodeError) -> Any:
    """Parse what orjson refused: Python's JSON knows NaN and half characters.

    Raises:
        Broken: it is no JSON, for the reason that orjson gave.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as bad:
        raise Broken("not UTF-8", offset + bad.start) from bad
    try:
        if error.pos < len(text) - 1:
            return json.loads(text, parse_int=_integer)
    except RecursionError:
        return Bad("too_deep", "this record is nested too deeply")
    except ValueError:
        pass  # reported below, at the place that orjson names
    raise Broken(error.msg, offset + len(text[: error.pos].encode())) from error


def _integer(text: str) -> int | float:
    value = int(text) if len(text) < 21 else float(text)
    return value if -(2**63) <= value < 2**64 else float(value)


def _whole(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        value = _parse(data, 0, error)
    if isinstance(value, Bad):
        raise Broken(value.message, 0)
    return value


def _object(data: bytes) -> Iterator[Any]:
    """Yield the records of a file that is not too large to be parsed whole."""
    try:
        whole = _whole(data)
    except Broken:
        lines = [line for line in data.split(b"\n") if line.strip()]
        if len(lines) < 2 or not any(_is_record(line) for line in lines[:2]):
            raise
        yield from (_line(line) for line in lines)
        return
    if not isinstance(whole, dict):
        yield whole
    elif whole and all(isinstance(value, dict) for value in whole.values()):
        yield from ({"id": key} | value for key, value in whole.items())
    elif key := next((k for k in LIST_KEYS if _is_table(whole.get(k))), None):
        yield from whole[key]
    else:
        yield whole


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _large_object(file: Path) -> Iterator[Any]:
    lists, records = dict[str, int](), True
    for key, place, first in _members(file):
        records = records and first == b"{"
        if key in LIST_KEYS and first == b"[":
            lists[key] = place
    if records:
        yield from _records(file)
        return
    for key in LIST_KEYS:
        if key in lists:
            yield from _list_at(file, lists[key])
            return
    yield read_json(file)


def _start(stream: IO[bytes], file: Path) -> tuple[_Joined, int]:
    """Return the stream behind the opening bracket of the top-level object, and the offset."""
    head = _all(stream, 65_536)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(_SPACE)
    if text[:1] != b"{":
        raise DataError("the file is no object", file=file, fix="take the official file")
    return _Joined(text[1:], stream), len(head) - len(text) + 1


def _members(file: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield (key, offset of the value, its first byte) of the top-level object."""
    with _Reading(file) as stream:
        joined, offset = _start(stream, file)
        for number, (head, place) in enumerate(heads(joined, offset)):
            if number or head.strip():
                key, value = _split(head, place)
                yield key, place + len(head) - len(value), value[:1]


def _split(element: bytes, offset: int) -> tuple[str, bytes]:
    """Split `"key": value`; the value is what stands behind the colon and its space."""
    text = element.lstrip(_SPACE)
    end = 1
    while (end := text.find(b'"', end)) > 0 and _slashes(text, end) % 2:
        end += 1
    value = text[end + 1 :].lstrip(_SPACE) if end > 0 else b""
    if text[:1] != b'"' or value[:1] != b":":
        raise Broken("expected a key", offset + len(element) - len(text))
    return _value(text[: end + 1], offset), value[1:].lstrip(_SPACE)


def _slashes(text: bytes, end: int) -> int:
    return end - len(text[:end].rstrip(b"\\"))


def _records(file: Path) -> Iterator[Any]:
    with _Reading(file) as stream:
        joined, offset = _start(stream, file)
        for batch in batches(joined, offset, b"{"):
            for element, place in batch.elements():
                if not element.strip() and batch.last:
                    continue
                value = _value(b"{" + element + b"}", place - 1)
                if isinstance(value, Bad):
                    yield value
                else:
                    yield from ({"id": key} | record for key, record in value.items())


def _list_at(file: Path, place: int) -> Iterator[Any]:
    """Yield the elements of the array that begins at an offset of the unpacked file."""
    with _Reading(file) as stream:
        if stream.seekable():
            stream.seek(place + 1)
        else:
            left = place + 1
            while left and (data := stream.read(min(left, BLOCK))):
                left -= len(data)
        yield from _array(stream, place + 1, more_follows=True)
