"""Files kept in a folder up to a number of bytes: what was read from far away, as long as it is used."""

import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock


class Cache:
    """Pictures as files named by their id, those longest unused removed beyond a number of bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._lock = folder, limit, Lock()
        folder.mkdir(parents=True, exist_ok=True)
        files = [(file.stat(), file) for file in folder.iterdir() if not file.name.startswith(".")]
        files.sort(key=lambda each: each[0].st_mtime_ns)
        self._sizes = OrderedDict((file.name, stat.st_size) for stat, file in files)
        self._held = sum(self._sizes.values())

    def get(self, name: str) -> bytes | None:
        with self._lock:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
            size = self._sizes[name]
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def clear(self) -> None:
        with self._lock:
            for name in self._sizes:
                (self._folder / name).unlink(missing_ok=True)
            self._sizes.clear()
            self._held = 0

    def put(self, name: str, data: bytes) -> None:
        if len(data) > self._limit:
            return
        write(self._folder / name, data)
        with self._lock:
            self._held += len(data) - self._sizes.pop(name, 0)
            self._sizes[name] = len(data)
            while self._held > self._limit:
                old, size = self._sizes.popitem(last=False)
                self._held -= size
                (self._folder / old).unlink(missing_ok=True)


def write(file: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    try:
        new.write_bytes(data)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
