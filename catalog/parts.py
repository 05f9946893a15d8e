"""Addressable Parquet: ordinary files whose binary column can be read by offset.

The binary column is stored last, non-null, PLAIN, uncompressed, one data page a row group; its
lengths stand in the column `size`. The offset of every value then follows from the footer alone.
Format: https://parquet.apache.org/docs/file-format/data-pages/encodings/
"""

import mmap
import os
import resource
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROW_GROUP_BYTES = 16 * 1024**2
"""Payload of a row group, in bytes: its page is held and written in one piece."""
ROW_GROUP_ROWS = 16_384
"""Rows of a row group: Arrow begins a new page after 20,000."""
SPARE_FILES = 512
"""Files that a process opens besides the catalog's."""
MAX_HEADER = 128
"""A page header is a few Thrift fields: more means that the file was written otherwise."""


class PartWriter:
    """Writes one Parquet file a row group at a time, whole or not at all."""

    def __init__(
        self, new: Path, schema: pa.Schema, *, binary: str | None, most: int = ROW_GROUP_ROWS
    ) -> None:
        """Begin the file under a name for the time being; a row group has `most` rows at most."""
        new.parent.mkdir(parents=True, exist_ok=True)
        others = [name for name in schema.names if name != binary]
        self._new = new
        self._writer = pq.ParquetWriter(
            new,
            schema,
            compression=dict.fromkeys(others, "zstd") | ({binary: "none"} if binary else {}),
            use_dictionary=others,
            data_page_size=2**31 - 1 if binary else None,
            write_batch_size=max(most, 1024),
            write_statistics=others,
            store_schema=True,
        )

    def __enter__(self) -> Self:
        return self

    def write(self, group: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(group, row_group_size=max(len(group), 1))

    def finish(self, path: Path) -> None:
        """End the file, and let it stand under its name."""
        self._writer.close()
        self._new.replace(path)

    def __exit__(self, *error: object) -> None:
        try:
            self._writer.close()
        finally:
            self._new.unlink(missing_ok=True)


def write_part(path: Path, table: pa.Table, *, binary: str | None) -> None:
    """Write a table as one Parquet file, whole or not at all; `binary` names the addressable column."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with PartWriter(new, table.schema, binary=binary, most=len(table)) as writer:
        for first, count in _row_groups(table, binary):
            writer.write(table.slice(first, count))
        writer.finish(path)


def _row_groups(table: pa.Table, binary: str | None) -> list[tuple[int, int]]:
    if binary is None or not len(table):
        return [(0, len(table))]
    sizes = table["size"].to_numpy().astype(np.int64)
    groups = (np.cumsum(sizes) - sizes) // ROW_GROUP_BYTES
    begins = np.flatnonzero(np.diff(groups, prepend=-1))
    ends = [*begins[1:], len(table)]
    starts = [
        start
        for begin, end in zip(begins, ends, strict=True)
        for start in range(begin, end, ROW_GROUP_ROWS)
    ]
    return [(int(a), int(b - a)) for a, b in zip(starts, [*starts[1:], len(table)], strict=True)]


def value_offsets(path: Path, binary: str = "data") -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the offset in the file and the length of every value of the binary column.

    Raises:
        ValueError: the file is Parquet, but not addressable.
    """
    with pq.ParquetFile(path) as file:
        meta = file.metadata
        column = meta.schema.to_arrow_schema().names.index(binary)
        leaf = next(i for i in range(meta.num_columns) if meta.schema.column(i).path == binary)
        assert column >= 0
        sizes = file.read(columns=["size"], use_threads=False)["size"].to_numpy().astype(np.int32)
        offsets = np.empty(len(sizes), np.int64)
        row = 0
        for group in range(meta.num_row_groups):
            count = meta.row_group(group).num_rows
            if not count:
                continue
            chunk = meta.row_group(group).column(leaf)
            part = sizes[row : row + count].astype(np.int64) + 4
            header = chunk.total_compressed_size - int(part.sum())
            if not 0 < header <= MAX_HEADER or chunk.has_dictionary_page:
                raise ValueError(f"{path}: column {binary} is not addressable")
            offsets[row : row + count] = (
                chunk.data_page_offset + header + np.cumsum(part) - part + 4
            )
            row += count
    return offsets, sizes


def allow_open(files: int) -> None:
    """Let this process hold so many files open at once, as far as the system allows.

    Every mapped file keeps a descriptor, and shells allow 1,024 where the system allows many more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class Part:
    """Random access to the binary column of one addressable Parquet file, by mmap."""

    __slots__ = ("_offsets", "_sizes", "_view", "path")

    def __init__(self, path: Path, binary: str = "data") -> None:
        self.path = path
        # A number from a memoryview costs a third of one from a NumPy array.
        offsets, sizes = value_offsets(path, binary)
        self._offsets, self._sizes = offsets.data, sizes.data
        with path.open("rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def __len__(self) -> int:
        return len(self._offsets)

    def span(self, row: int) -> tuple[int, int]:
        """Return the first byte of a row's value in the file, and its size."""
        return self._offsets[row], self._sizes[row]

    def __getitem__(self, row: int) -> memoryview:
        """Return the bytes of a row without copying them."""
        start = self._offsets[row]
        return self._view[start : start + self._sizes[row]]
