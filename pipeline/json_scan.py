"""Where the elements of a huge JSON array or object end, found block by block without parsing it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

BLOCK = 1024**2
"""Bytes read, scanned and parsed at a time."""
HEAD = 65_536
"""First bytes of a member that are kept to tell its key and kind."""
RUNAWAY = 64 * 1024**2
"""An element longer than this is parsed as far as it goes: a lost quote looks like one long element."""

_QUOTE, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4
_TABLE = bytearray(256)
for _characters, _kind in ((b'"', _QUOTE), (b"[{", _OPEN), (b"]}", _CLOSE), (b",", _COMMA)):
    for _character in _characters:
        _TABLE[_character] = _kind
_STEP = np.zeros(256, np.int32)
_STEP[_OPEN], _STEP[_CLOSE] = 1, -1


class Broken(ValueError):
    """Bytes that are no JSON: `offset` is the place in the unpacked file."""

    def __init__(self, message: str, offset: int) -> None:
        self.message, self.offset = message, offset
        super().__init__(message)


class _Scanner:
    """The depth of brackets outside strings, carried from block to block."""

    def __init__(self) -> None:
        self._depth, self._in_string, self._escape = 1, False, False

    def feed(self, block: bytes) -> tuple[NDArray[np.int64], int | None]:
        """Return where the commas between elements stand, and where the closing bracket does."""
        kinds = np.frombuffer(block.translate(_TABLE), np.uint8)
        places = np.flatnonzero(kinds)
        kinds = kinds[places]
        quotes = kinds == _QUOTE
        if self._escape or b"\\" in block:
            quotes &= ~self._escaped(block)[places]
        inside = np.cumsum(quotes, dtype=np.int32) + self._in_string
        self._in_string = bool(inside[-1] & 1) if len(inside) else self._in_string
        outside = (inside & 1 == 0) & ~(kinds == _QUOTE)
        places, kinds = places[outside], kinds[outside]
        depth = np.cumsum(_STEP[kinds], dtype=np.int32) + self._depth
        self._depth = int(depth[-1]) if len(depth) else self._depth
        closed = np.flatnonzero(depth == 0)
        commas = places[(kinds == _COMMA) & (depth == 1)]
        if not len(closed):
            return commas, None
        close = int(places[closed[0]])
        return commas[commas < close], close

    def _escaped(self, block: bytes) -> NDArray[np.bool_]:
        """Return for each byte whether an odd run of backslashes stands before it."""
        flags = np.zeros(len(block) + 1, np.bool_)
        slashes = np.flatnonzero(np.frombuffer(block, np.uint8) == 0x5C)
        if len(slashes):
            breaks = np.flatnonzero(np.diff(slashes) > 1)
            firsts = slashes[np.concatenate(([0], breaks + 1))]
            lasts = slashes[np.concatenate((breaks, [len(slashes) - 1]))]
            lengths = lasts - firsts + 1
            if self._escape and firsts[0] == 0:
                lengths[0] += 1
            flags[lasts[lengths % 2 == 1] + 1] = True
        if self._escape and block[0] != 0x5C:
            flags[0] = True
        self._escape = bool(flags[-1])
        return flags[:-1]


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole elements of an array or object, with the commas between them."""

    data: bytes
    commas: NDArray[np.int64]
    offset: int
    """Of `data` in the unpacked file."""
    last: bool

    def elements(self) -> Iterator[tuple[bytes, int]]:
        """Yield each element's bytes and their offset in the file."""
        start = 0
        for end in [*self.commas.tolist(), len(self.data)]:
            yield self.data[start:end], self.offset + start
            start = end + 1


class Stream(Protocol):
    """What blocks are read from; fewer bytes than asked for may come."""

    def read(self, size: int, /) -> bytes: ...


def batches(
    stream: Stream, offset: int, bracket: bytes, *, more_follows: bool = False
) -> Iterator[Batch]:
    """Yield the elements of a value whose opening bracket ends at `offset`, where the stream stands.

    Raises:
        Broken: the stream ends before the value does, or holds more behind it (unless it may).
    """
    scanner, held, size, runaway = _Scanner(), list[bytes](), 0, RUNAWAY
    close_with = {b"[": b"]", b"{": b"}"}[bracket]
    while block := stream.read(BLOCK):
        commas, close = scanner.feed(block)
        if close is not None:
            data = b"".join([*held, block[:close]])
            if block[close : close + 1] != close_with:
                raise Broken(f"expected {close_with.decode()!r}", offset + size + close)
            yield Batch(data, commas + size, offset, last=True)
            if not more_follows:
                _nothing_follows(stream, block[close + 1 :], offset + size + close + 1)
            return
        if len(commas):
            end = int(commas[-1])
            data = b"".join([*held, block[:end]])
            yield Batch(data, commas[:-1] + size, offset, last=False)
            offset += size + end + 1
            held, size, runaway = [block[end + 1 :]], len(block) - end - 1, RUNAWAY
        else:
            held.append(block)
            size += len(block)
            if size > runaway:
                _check_prefix(b"".join(held), offset, bracket)
                runaway *= 4
    data = b"".join(held)
    _check_prefix(data, offset, bracket)
    raise Broken("unexpected end of data", offset + len(data))


def heads(stream: Stream, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield the first bytes and the offset of every member of the top-level object; keeps no more.

    Raises:
        Broken: the file ends before the object does, or holds more behind it.
    """
    scanner, head, start = _Scanner(), b"", offset
    while block := stream.read(BLOCK):
        commas, close = scanner.feed(block)
        place = 0
        for end in [*commas.tolist(), *([] if close is None else [close])]:
            yield (head + block[place : min(end, place + HEAD)])[:HEAD], start
            head, place, start = b"", end + 1, offset + end + 1
        offset += len(block)
        if close is not None:
            if block[close : close + 1] != b"}":
                raise Broken("expected '}'", start - 1)
            _nothing_follows(stream, block[close + 1 :], start)
            return
        if len(head) < HEAD:
            head += block[place : place + HEAD]
    raise Broken("unexpected end of data", offset)


def _nothing_follows(stream: Stream, rest: bytes, offset: int) -> None:
    while rest:
        if text := rest.lstrip():
            raise Broken("unexpected content after document", offset + len(rest) - len(text))
        offset += len(rest)
        rest = stream.read(BLOCK)


def _check_prefix(data: bytes, offset: int, bracket: bytes) -> None:
    """Look for what is wrong in bytes that have no end.

    Raises:
        Broken: something is, before the end.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end < len(data) - 3:
            raise Broken("not UTF-8", offset + error.start) from error
        data = data[: error.start]
        text = data.decode()
    try:
        orjson.loads(bracket + data)
    except orjson.JSONDecodeError as error:
        place = len(text[: max(error.pos - 1, 0)].encode())
        if place < len(data) - 1:
            raise Broken(error.msg, offset + place) from error
