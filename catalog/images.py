"""The picture store: SHA-256 of the bytes -> the bytes, each distinct picture stored once."""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from catalog.errors import CuveeError, UserError
from catalog.index import DIGEST, PictureIndex
from catalog.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A stored picture whose bytes no longer match its id, or a file that cannot be read at all."""

    image_id: str
    """Empty where the whole file is damaged."""
    file: Path
    row: int
    """-1 where the whole file is damaged."""


class ImageStore:
    """Random access to the pictures in these parts, without copying their bytes.

    `get` looks one picture up; who reads many asks for their `places` once and reads `at` them.
    """

    def __init__(self, files: Sequence[Path], cache: Path | None = None) -> None:
        self._files = list(files)
        try:
            self._index = PictureIndex.of(self._files, cache)
        except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise CuveeError(
                f"a file of pictures cannot be read: {error}\n"
                "Fix: run `cuvee verify`, then `cuvee ingest` again"
            ) from error
        index = self._index
        self._views: list[memoryview | None] = [None] * len(self._files)
        # Plain buffers: a number from a memoryview costs a third of one from a NumPy array.
        self._digests = _buffer(index.digests.reshape(-1))
        self._fan, self._shift = _buffer(index.fan), 32 - index.bits
        self._part, self._offset = _buffer(index.part), _buffer(index.offset)
        self._size = _buffer(index.size)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def files(self) -> int:
        """Number of files that hold the pictures."""
        return len(self._files)

    def __contains__(self, image_id: str) -> bool:
        return self.place(image_id) is not None

    def place(self, image_id: str) -> int | None:
        """Return where a picture stands in this store, or None."""
        digest, digests, fan = bytes.fromhex(image_id), self._digests, self._fan
        beginning = int(image_id[:8], 16) >> self._shift
        place, end = fan[beginning], fan[beginning + 1]
        while place < end:
            if digests[place * DIGEST : place * DIGEST + DIGEST].tobytes() == digest:
                return place
            place += 1
        return None

    def places(self, ids: pa.Array | pl.Series | Sequence[str]) -> NDArray[np.int64]:
        """Return where pictures stand in this store, -1 for each that it does not have."""
        return self._index.places(ids)

    def at(self, place: int) -> memoryview:
        """Return the bytes of the picture at a place, without copying them."""
        part, start = self._part[place], self._offset[place]
        view = self._views[part]
        if view is None:
            view = self._open(part)
        return view[start : start + self._size[place]]

    def load(self, places: Sequence[int]) -> list[memoryview]:
        """Return the bytes of the pictures at many places."""
        return [self.at(place) for place in places]

    def digest(self, place: int) -> bytes:
        """Return the SHA-256 that the picture at a place must have."""
        return self._digests[place * DIGEST : place * DIGEST + DIGEST].tobytes()

    def _open(self, part: int) -> memoryview:
        with self._files[part].open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._views[part] = view
        return view

    def get(self, image_id: str) -> memoryview:
        """Return a picture's bytes without copying them.

        Raises:
            UserError: no such picture.
        """
        place = self.place(image_id)
        if place is None:
            raise _unknown(image_id)
        view, start = self._views[self._part[place]], self._offset[place]
        if view is None:
            return self.at(place)
        return view[start : start + self._size[place]]

    def get_many(self, ids: Sequence[str]) -> list[memoryview]:
        """Return the bytes of many pictures, looked up together, without copying them.

        Raises:
            UserError: no such picture.
        """
        places = self.places(ids).tolist()
        if -1 in places:
            raise _unknown(ids[places.index(-1)])
        return self.load(places)

    def verify(self) -> Iterator[Damaged | None]:
        """Hash every picture again; yield None for each good one, Damaged for each other."""
        return verify(self._files)


def verify(files: Sequence[Path]) -> Iterator[Damaged | None]:
    """Hash every picture of these files; yield None for each good one, Damaged for each other.

    Nothing but the files themselves is believed: no index, no cache.
    """
    for file in files:
        try:
            ids = pl.read_parquet(file, columns=["image_id"])["image_id"]
            part = Part(file)
            if len(part) != len(ids):
                raise ValueError(f"{len(part)} pictures, {len(ids)} ids")
        except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError):
            yield Damaged(image_id="", file=file, row=-1)
            continue
        for row, image_id in enumerate(ids):
            good = hashlib.sha256(part[row]).hexdigest() == image_id
            yield None if good else Damaged(image_id=image_id, file=file, row=row)


def _buffer(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data


def _unknown(image_id: str) -> UserError:
    return UserError(
        f"no picture {image_id} in this catalog", fix="take an id from Catalog.images()"
    )
