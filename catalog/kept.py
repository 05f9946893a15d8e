"""What was read from far away, kept in a folder up to a number of bytes, as long as it is used.

What was fetched together is one file: its pieces, then their names and sizes as JSON, then the length
of that in eight bytes. A file for each piece would cost more than it takes to fetch it.
"""

import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

LENGTH = 8
"""Bytes of a file's last number."""


class _Place(NamedTuple):
    file: str
    first: int
    size: int


class Cache:
    """Pieces by name in files of what came together, those longest unused removed beyond a limit."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._lock = folder, limit, Lock()
        self._places: dict[str, _Place] = {}
        self._files: OrderedDict[str, tuple[list[str], int]] = OrderedDict()
        self._held = 0
        folder.mkdir(parents=True, exist_ok=True)
        found = [file for file in folder.iterdir() if not file.name.startswith(".")]
        for file in sorted(found, key=lambda each: each.name):
            sizes = _sizes(file)
            if sizes is None:
                file.unlink(missing_ok=True)
            else:
                self._add(file.name, sizes, file.stat().st_size)

    def get(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the pieces of these names, None for each that is not kept."""
        with self._lock:
            places = [self._places.get(name) for name in names]
            for place in places:
                if place:
                    self._files.move_to_end(place.file)
        return [place and self._read(place) for place in places]

    def _read(self, place: _Place) -> bytes | None:
        try:
            file = os.open(self._folder / place.file, os.O_RDONLY)
        except FileNotFoundError:
            # Another process keeps its own count, and has removed it.
            return None
        try:
            data = os.pread(file, place.size, place.first)
        finally:
            os.close(file)
        return data if len(data) == place.size else None

    def clear(self) -> None:
        """Throw everything away."""
        with self._lock:
            self._shrink(0)

    def put(self, pieces: Mapping[str, bytes | memoryview]) -> None:
        """Keep pieces that came together."""
        sizes = {name: len(data) for name, data in pieces.items()}
        told = json.dumps(sizes).encode()
        length = sum(sizes.values()) + len(told) + LENGTH
        if not pieces or length > self._limit:
            return
        name = f"{time.time_ns():020}-{os.getpid()}"
        write(self._folder / name, *pieces.values(), told, len(told).to_bytes(LENGTH, "big"))
        with self._lock:
            self._add(name, sizes, length)
            self._shrink(self._limit)

    def _add(self, file: str, sizes: Mapping[str, int], length: int) -> None:
        first = 0
        for name, size in sizes.items():
            self._places[name] = _Place(file, first, size)
            first += size
        self._files[file] = list(sizes), length
        self._held += length

    def _shrink(self, limit: int) -> None:
        while self._held > limit:
            file, (names, length) = self._files.popitem(last=False)
            self._held -= length
            for name in names:
                place = self._places.get(name)
                if place and place.file == file:
                    del self._places[name]
            (self._folder / file).unlink(missing_ok=True)


def _sizes(file: Path) -> dict[str, int] | None:
    """Return the names and sizes of a file's pieces, None where it is not one of these files."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - LENGTH))
        length = int.from_bytes(stream.read(), "big")
        if length + LENGTH > size:
            return None
        stream.seek(size - LENGTH - length)
        try:
            sizes: dict[str, int] = json.loads(stream.read(length))
        except ValueError:
            return None
    return sizes if sum(sizes.values()) + length + LENGTH == size else None


def write(file: Path, *pieces: bytes | memoryview) -> None:
    """Write a file so that it is either whole or not there."""
    new = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    try:
        try:
            stream = new.open("wb")
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = new.open("wb")
        with stream:
            stream.writelines(pieces)
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
