"""The picture store: SHA-256 of the bytes -> the bytes, each distinct picture stored once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from catalog.errors import UserError
from catalog.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A stored picture whose bytes no longer match its id."""

    image_id: str
    file: Path
    row: int


class ImageStore:
    """Random access to the pictures in these parts.

    Ids are found by their first 64 bits in a sorted array: 16 bytes of memory a picture.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._parts: list[Part | None] = [None] * len(self._files)
        self._ids: list[pl.Series] = [
            pl.read_parquet(file, columns=["image_id"])["image_id"] for file in self._files
        ]
        keys = [_prefixes(ids) for ids in self._ids]
        counts = [len(ids) for ids in self._ids]
        prefixes = np.concatenate([np.zeros(0, np.uint64), *keys])
        order = np.argsort(prefixes, kind="stable")
        self._prefixes: NDArray[np.uint64] = prefixes[order]
        self._part: NDArray[np.int32] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[
            order
        ]
        rows = [np.arange(count, dtype=np.int32) for count in counts]
        self._row: NDArray[np.int32] = np.concatenate([np.zeros(0, np.int32), *rows])[order]

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, image_id: str) -> bool:
        return self.find(image_id) is not None

    def find(self, image_id: str) -> tuple[int, int] | None:
        """Return (part, row) of a picture, or None."""
        key = np.uint64(int(image_id[:16], 16))
        place = int(np.searchsorted(self._prefixes, key))
        while place < len(self._prefixes) and self._prefixes[place] == key:
            part, row = int(self._part[place]), int(self._row[place])
            if self._ids[part][row] == image_id:
                return part, row
            place += 1
        return None

    def get(self, image_id: str) -> memoryview:
        """Return a picture's bytes without copying them.

        Raises:
            UserError: no such picture.
        """
        place = self.find(image_id)
        if place is None:
            raise UserError(
                f"no picture {image_id} in this catalog", fix="take an id from Catalog.images()"
            )
        return self.at(*place)

    def at(self, part: int, row: int) -> memoryview:
        """Return the bytes of a picture by its place."""
        opened = self._parts[part]
        if opened is None:
            opened = self._parts[part] = Part(self._files[part])
        return opened[row]

    def verify(self) -> Iterator[Damaged | None]:
        """Hash every picture again; yield None for each good one, Damaged for each other."""
        for part, (file, ids) in enumerate(zip(self._files, self._ids, strict=True)):
            for row, image_id in enumerate(ids):
                good = hashlib.sha256(self.at(part, row)).hexdigest() == image_id
                yield None if good else Damaged(image_id=image_id, file=file, row=row)


def _prefixes(ids: pl.Series) -> NDArray[np.uint64]:
    prefixes = ids.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
    return prefixes.to_numpy()
