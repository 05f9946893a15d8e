"""One picture's bytes out of a container, in place; open containers are kept for the next picture.

`ImageRef(path=container, member=...)` names the picture:

- `.zip`, `.tar`, `.tar.gz` (`.tgz`, `.tar.bz2`, `.tar.xz`, `.tar.zst`): the member's name
- `.parquet`, `.arrow`: `17:image.bytes`, `17:images.2`; row, then a path into structs and lists
- `.tsv`, `.csv`: `17:image`; record without the header, then the column of base64; without a header
  `17:#2`, line and field
- `.json`, `.jsonl`, also `.gz` and `.zst`: `17:images.0`; record, then the path to base64 or a data URL
- `.pdf`: `4`; the page, from 0, drawn at `PDF_DPI`
- `.pkl`, `.pickle`, `.pk`, `.p`: `17:image`; record, then the path to an array of pixels, given as PNG
"""

import csv
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.containers.archives import BROKEN, Zip, open_archive
from pipeline.containers.documents import PDF_DPI, Pdf, Pickle
from pipeline.containers.json_rows import JsonRows
from pipeline.containers.tables import Arrow, Delimited, Parquet
from pipeline.limits import Refused

MAX_OPEN = 4
"""Containers that a thread keeps open; each holds an index, and tables one row group."""


class Container(Protocol):
    """Something that pictures are read from by a member's name."""

    def read(self, member: str) -> bytes: ...
    def close(self) -> None: ...


KINDS: dict[str, Callable[[Path], Container]] = {
    ".zip": open_archive,
    ".tar": open_archive,
    ".tgz": open_archive,
    ".tar.gz": open_archive,
    ".tar.bz2": open_archive,
    ".tar.xz": open_archive,
    ".tar.zst": open_archive,
    ".parquet": Parquet,
    ".arrow": Arrow,
    ".tsv": Delimited,
    ".csv": Delimited,
    **{f".{name}{pack}": JsonRows for name in ("json", "jsonl") for pack in ("", ".gz", ".zst")},
    ".pdf": Pdf,
    ".pkl": Pickle,
    ".pickle": Pickle,
    ".pk": Pickle,
    ".p": Pickle,
}
_OPEN = threading.local()
_State = tuple[int, int, int, int]
_DAMAGE = (*BROKEN, csv.Error, pa.ArrowException, RuntimeError, KeyError, IndexError, TypeError)


class _Kept:
    """A thread's open containers; closed when the thread or the program ends."""

    def __init__(self) -> None:
        self.containers: OrderedDict[Path, tuple[_State, Container]] = OrderedDict()
        weakref.finalize(self, _close, self.containers)


def _close(containers: OrderedDict[Path, tuple[_State, Container]]) -> None:
    while containers:
        containers.popitem()[1][1].close()


class _Unusable:
    """A container that cannot be read, remembered so that it is not opened for every picture."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused

    def read(self, member: str) -> bytes:
        raise Refused(self._refused.reason, self._refused.message)

    def close(self) -> None:
        pass


def read_member(path: Path, member: str) -> bytes:
    """Return the bytes of a picture in a container.

    Raises:
        Refused: no such member, or one that cannot be taken; the reason says which.
        OSError: the container itself cannot be opened.
    """
    stat = path.stat()
    # A forked child shares the parent's file positions: it opens its own.
    state = (stat.st_size, stat.st_mtime_ns, stat.st_ino, os.getpid())
    if not hasattr(_OPEN, "kept"):
        _OPEN.kept = _Kept()
    opened: OrderedDict[Path, tuple[_State, Container]] = _OPEN.kept.containers
    if path in opened and opened[path][0] != state:
        opened.pop(path)[1].close()
    if path not in opened:
        while len(opened) >= MAX_OPEN:
            opened.popitem(last=False)[1][1].close()
        opened[path] = (state, _open(path))
    opened.move_to_end(path)
    container = opened[path][1]
    try:
        return container.read(member)
    except Refused as refused:
        if refused.reason == "zip_bomb" and not isinstance(container, Zip):
            container.close()
            opened[path] = (state, _Unusable(refused))
        raise
    except OSError:
        raise
    except _DAMAGE as error:
        raise Refused("unreadable_file", f"{path.name}:{member}: {error}") from error


def _open(path: Path) -> Container:
    kind = kind_of(path)
    if kind is None:
        known = ", ".join(KINDS)
        return _Unusable(
            Refused("unknown_container", f"{path.name} is no container; known are {known}")
        )
    try:
        return kind(path)
    except Refused as refused:
        return _Unusable(refused)
    except OSError:
        raise
    except _DAMAGE as error:
        return _Unusable(Refused("unreadable_file", f"{path.name}: {error}"))


def kind_of(path: Path) -> Callable[[Path], Container] | None:
    """Return what opens a container of this name, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return KINDS.get("".join(suffixes)) or (KINDS.get(suffixes[-1]) if suffixes else None)


__all__ = ["KINDS", "PDF_DPI", "kind_of", "read_member"]
