"""Where each picture lies: SHA-256 -> (part, offset, size), a sorted table used from disk by mmap.

Digests are spread evenly, so a table of where each of their beginnings starts (as in a Git pack
index) leaves about one entry to compare. The table is a cache: lost, it is made again from the
parts. It costs 52 bytes of disk a picture and no memory but what is touched.
Format: https://git-scm.com/docs/pack-format
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.errors import UserError
from catalog.parts import value_offsets

DIGEST = 32
"""Bytes of a SHA-256."""
_FIELDS = ("digests", "fan", "part", "offset", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureIndex:
    """n pictures, sorted by digest."""

    digests: NDArray[np.uint8]
    """(n, 32)."""
    fan: NDArray[np.uint32]
    """(2^bits + 1,): first entry whose digest begins with at least this."""
    part: NDArray[np.uint32]
    """(n,): place of the file in the list the index was made from."""
    offset: NDArray[np.int64]
    """(n,): first byte in that file."""
    size: NDArray[np.int32]
    """(n,): bytes."""

    def __len__(self) -> int:
        return len(self.part)

    @property
    def bits(self) -> int:
        return (len(self.fan) - 1).bit_length() - 1

    @classmethod
    def of(cls, files: Sequence[Path], cache: Path | None = None) -> "PictureIndex":
        """Return the index of these addressable files, from the cache folder where it has it."""
        if cache is None:
            return cls._made(files)
        folder = cache / f"pictures-{_key(files)}"
        try:
            return cls._load(folder)
        except (OSError, ValueError):
            made = cls._made(files)
        try:
            made._save(folder)
            return cls._load(folder)
        except OSError:
            # A cache that cannot be written (read-only, full, another process at it) is no loss.
            return made

    @classmethod
    def _load(cls, folder: Path) -> "PictureIndex":
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FIELDS})

    @classmethod
    def _made(cls, files: Sequence[Path]) -> "PictureIndex":
        found = [_read(file) for file in files]
        counts = [len(sizes) for _, _, sizes in found]
        digests = np.concatenate([np.zeros((0, DIGEST), np.uint8), *(each[0] for each in found)])
        order = np.argsort(_prefixes(digests), kind="stable")
        digests = digests[order]
        bits = min(max(len(order), 1).bit_length(), 32)
        starts = np.arange(2**bits, dtype=np.uint64) << np.uint64(64 - bits)
        fan = np.append(np.searchsorted(_prefixes(digests), starts), len(order))
        return cls(
            digests=digests,
            fan=fan.astype(np.uint32),
            part=np.repeat(np.arange(len(counts), dtype=np.uint32), counts)[order],
            offset=np.concatenate([np.zeros(0, np.int64), *(each[1] for each in found)])[order],
            size=np.concatenate([np.zeros(0, np.int32), *(each[2] for each in found)])[order],
        )

    def _save(self, folder: Path) -> None:
        new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
        try:
            new.mkdir(parents=True, exist_ok=True)
            for name in _FIELDS:
                np.save(new / f"{name}.npy", getattr(self, name))
            if not folder.is_dir():
                for old in folder.parent.glob("pictures-*"):
                    # Whoever has it mapped keeps it: only the name goes.
                    shutil.rmtree(old, ignore_errors=True)
                new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def places(self, ids: pa.Array | pl.Series | Sequence[str]) -> NDArray[np.int64]:
        """Return the entry of each id, -1 where there is none.

        Raises:
            UserError: an id is not 64 hexadecimal digits.
        """
        wanted = digests_of(ids)
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        found = np.full(len(wanted), -1, np.int64)
        beginning = _prefixes(wanted) >> np.uint64(64 - self.bits)
        entry = self.fan[beginning].astype(np.int64)
        end = self.fan[beginning + np.uint64(1)].astype(np.int64)
        open_ = np.flatnonzero(entry < end)
        while len(open_):
            same = (self.digests[entry[open_]] == wanted[open_]).all(1)
            found[open_[same]] = entry[open_[same]]
            open_ = open_[~same]
            entry[open_] += 1
            open_ = open_[entry[open_] < end[open_]]
        return found


def digests_of(ids: pa.Array | pl.Series | Sequence[str]) -> NDArray[np.uint8]:
    """Return hexadecimal ids as bytes, (n, 32).

    Raises:
        UserError: an id is not 64 hexadecimal digits.
    """
    array = (ids.to_arrow() if isinstance(ids, pl.Series) else pa.array(ids)).cast(pa.string())
    joined = b""
    if len(array):
        # One piece of text, not a Python object for each id: they come in millions.
        offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
        text = array.buffers()[2].to_pybytes()[offsets[0] : offsets[-1]] if offsets[-1] else b""
        try:
            joined = bytes.fromhex(text.decode())
        except ValueError:
            joined = b""
        if (
            array.null_count
            or (np.diff(offsets) != 2 * DIGEST).any()
            or 2 * len(joined) != len(text)
        ):
            shown = next(each for each in array.to_pylist() if not _is_id(each))
            raise UserError(
                f"{shown!r} is no picture id", fix="take an id from Catalog.images(): 64 hex digits"
            )
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST)


def _is_id(text: str | None) -> bool:
    return text is not None and len(text) == 2 * DIGEST and set(text) <= set("0123456789abcdef")


def _prefixes(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    beginnings: NDArray[Any] = np.ascontiguousarray(digests[:, :8]).view(">u8")
    return beginnings[:, 0].astype(np.uint64)


def _read(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    ids = pq.read_table(file, columns=["image_id"])["image_id"]
    digests = [np.zeros((0, DIGEST), np.uint8), *map(digests_of, ids.chunks)]
    return np.concatenate(digests), *value_offsets(file)


def _key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
