"""Pictures that the catalog does not hold yet -> one part, a row group at a time.

They are read into the memory that Arrow writes them from, so that no byte of them is copied between;
and no more of a chunk's pictures is held than a row group.
"""

import mmap
import threading
from itertools import accumulate
from pathlib import Path
from typing import Self

import pyarrow as pa

from catalog.parts import ROW_GROUP_BYTES, ROW_GROUP_ROWS, PartWriter
from catalog.schema import IMAGES, Measured, image_rows
from pipeline.limits import MAX_BYTES


class NewPictures:
    """The part that a chunk's new pictures become; nothing stands there until it is finished."""

    def __init__(self, new: Path) -> None:
        self._memory = _memory()
        self._held: list[tuple[str, Measured, int]] = []
        self._end = 0
        self._written = 0
        self._writer = PartWriter(new, IMAGES, binary="data")
        self.ids: set[str] = set()

    def __enter__(self) -> Self:
        return self

    @property
    def free(self) -> memoryview:
        """Where the next picture may be read to, at least `MAX_BYTES`."""
        return self._memory[self._end :]

    def keep(self, image_id: str, measured: Measured, size: int) -> None:
        """Keep the picture that `free` begins with."""
        self.ids.add(image_id)
        self._held.append((image_id, measured, size))
        self._end += size
        # As `write_part` cuts a whole table: by where in all bytes a row group begins.
        next_group = (self._written // ROW_GROUP_BYTES + 1) * ROW_GROUP_BYTES
        if self._written + self._end >= next_group or len(self._held) == ROW_GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        ids, measured, sizes = zip(*self._held, strict=True)
        ends = pa.array(accumulate(sizes, initial=0), pa.int32())
        buffers = [None, ends.buffers()[1], pa.py_buffer(self._memory[: self._end])]
        data = pa.Array.from_buffers(pa.binary(), len(sizes), buffers)
        self._writer.write(image_rows(ids, measured, data))
        self._written += self._end
        self._held, self._end = [], 0

    def finish(self, path: Path) -> None:
        """Write what is left, and let the part stand under its name."""
        if self._held:
            self._write()
        self._writer.finish(path)

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)


_KEPT = threading.local()


def _memory() -> memoryview:
    """Return memory that this thread builds all of its chunks in: fresh pages cost more than a copy."""
    memory: memoryview | None = getattr(_KEPT, "memory", None)
    if memory is None:
        pages = mmap.mmap(-1, ROW_GROUP_BYTES + MAX_BYTES)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)
        memory = _KEPT.memory = memoryview(pages)
    return memory
