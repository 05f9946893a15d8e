"""A source's official files -> chunks: ranges of a split's records that wait on disk to be built.

A chunk's key is a hash of its records' content, so only chunks whose records, pictures, reader or
settings changed are built again.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import pyarrow as pa

from catalog.errors import UserError
from catalog.ledger import FileHashes
from catalog.record import Record, Refusal
from catalog.schema import sample_rows
from pipeline.checks import Check, Refused, inside, sound
from pipeline.items import Content, checked, chunked, key_of, no_collection
from pipeline.jobs import Job
from pipeline.sources import Source

CHUNK_RECORDS = 5_000
"""Records in one chunk: some seconds of work with pictures."""
Place = tuple[str, str | None]
"""Path of a picture, or of its container, and its name in there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A spooled range of one split's records; small, so that any task runner can carry it."""

    source: str
    """Its name in the catalog."""
    family: str
    reader_version: int
    settings: str
    check: Check
    root: Path
    split: str
    first: int
    count: int
    files: dict[str, str]
    """Official files the split was read from -> SHA-256."""
    containers: dict[str, str]
    """Files that its pictures are read out of -> SHA-256, "" where missing."""
    key: str
    staging: Path

    @property
    def spool(self) -> Path:
        return self.staging / f"{self.key}.records"

    @property
    def receipt(self) -> Path:
        return self.staging / f"{self.key}.built.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The items of a chunk between their files and the catalog."""

    rows: pa.Table
    """A row a record, of the columns of samples that need no picture."""
    positions: tuple[int, ...]
    """Row -> the record's position in the chunk."""
    unsound: dict[int, Record]
    """Row -> the record, where the sizes of its pictures matter, or it will be refused."""
    refusals: dict[int, Refusal]
    """Position -> what the reader refused."""

    @classmethod
    def of(cls, items: Sequence[Content], family: str) -> Self:
        """Return the spool of items and their content ids."""
        read = [
            (position, item, content)
            for position, (item, content) in enumerate(items)
            if isinstance(item, Record)
        ]
        records = [record for _, record, _ in read]
        return cls(
            rows=sample_rows(records, [content for _, _, content in read], family=family),
            positions=tuple(position for position, _, _ in read),
            unsound={row: record for row, record in enumerate(records) if not sound(record)},
            refusals={n: item for n, (item, _) in enumerate(items) if isinstance(item, Refusal)},
        )

    def pictures(self) -> list[list[Place]]:
        """Return the pictures of every row."""
        column = self.rows["images"].combine_chunks()
        paths, members = (part.to_pylist() for part in column.values.flatten())
        flat, ends = list(zip(paths, members, strict=True)), column.offsets.to_pylist()
        return [flat[first:end] for first, end in pairwise(ends)]

    def refusal(self, row: int, source: str, reason: Refused) -> Refusal:
        """Return the refusal of a row's record."""
        split, file, key = (str(self.rows[name][row]) for name in ("split", "file", "native_id"))
        return Refusal(
            source=source,
            split=split,
            reason=reason.reason,
            file=file,
            record=key,
            message=reason.message,
        )


def splits_of(source: Source, job: Job) -> dict[str, tuple[Path, ...]]:
    """Return the splits to ingest and their official files.

    Raises:
        UserError: the folder holds none of the source's files, or lacks a split asked for.
    """
    found = source.found(job.root)
    if job.splits is None:
        return found
    if missing := [split for split in job.splits if split not in found]:
        raise UserError(
            f"{source.name}: no split {', '.join(missing)} in {job.root}",
            fix=f"it has {', '.join(found) or 'none'}",
        )
    return {split: found[split] for split in job.splits}


def staging_of(catalog: Path, source: str) -> Path:
    """Return the folder where a source's parts wait for their commit."""
    return catalog / ".staging" / source


def cut(job: Job, catalog: Path, chunk_records: int = CHUNK_RECORDS) -> Iterator[Chunk]:
    """Read a source's annotations and yield its chunks, each once its records are spooled.

    Raises:
        DataError: a file is broken; then nothing of the source may be committed.
    """
    source = job.reader()
    staging_of(catalog, source.name).mkdir(parents=True, exist_ok=True)
    for split, files in splits_of(source, job).items():
        with FileHashes(catalog) as hashes:
            contents = {relative_to(job.root, file): hashes.of(file) for file in files}
        ranges = chunked(checked(source.read(job.root, split)), chunk_records)
        first = 0
        while (chunk := _spooled(job, catalog, source, split, contents, ranges, first)) is not None:
            yield chunk
            first += chunk.count


@no_collection()
def _spooled(
    job: Job,
    catalog: Path,
    source: Source,
    split: str,
    files: dict[str, str],
    ranges: Iterator[list[Content]],
    first: int,
) -> Chunk | None:
    """Spool the next range of a split; None where there is no more."""
    if (items := next(ranges, None)) is None:
        return None
    spool = Spool.of(items, source.family)
    chunk = Chunk(
        source=source.name,
        family=source.family,
        reader_version=source.version,
        settings=job.settings,
        check=job.check,
        root=job.root,
        split=split,
        first=first,
        count=len(items),
        files=files,
        containers=_containers(spool, job.root, catalog),
        key=key_of(source, job.settings, split, (content for _, content in items)),
        staging=staging_of(catalog, source.name),
    )
    write_whole(chunk.spool, pickle.dumps(spool, protocol=5))
    return chunk


def _containers(spool: Spool, root: Path, catalog: Path) -> dict[str, str]:
    paths = {path for row in spool.pictures() for path, member in row if member is not None}
    if not paths:
        return {}
    with FileHashes(catalog) as hashes:
        return {path: hash_inside(path, root, hashes) for path in sorted(paths)}


def hash_inside(path: str, root: Path, hashes: FileHashes) -> str:
    """Return the SHA-256 of a file below the root, "" where there is none."""
    try:
        return hashes.of_or_empty(inside(root, path))
    except Refused:
        return ""


def relative_to(root: Path, file: Path) -> str:
    """Return a file's POSIX path from the root, also where it lies elsewhere."""
    return Path(os.path.relpath(file, root)).as_posix()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
