"""Official files -> catalog, in three plain steps: cut a source, build its parts, commit it whole.

A chunk is a range of a split's records. Its key is a hash of their content, so only chunks whose
records, pictures, reader or settings changed are built again. Built parts wait in a staging folder
until the source's one commit: a killed run finds them there.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from catalog import Catalog
from catalog.errors import UserError
from catalog.ledger import FileHashes, LedgerEntry, live_entries
from catalog.parts import write_part
from catalog.record import Record, Refusal
from catalog.repair import missing
from catalog.schema import image_table, refusal_table, sample_table
from pipeline.checks import Picture, Refused, check_record, inside, measure, read_picture
from pipeline.items import INGEST_VERSION, checked, chunked, key_of, no_collection, refusal_of
from pipeline.jobs import Job
from pipeline.outside import settled
from pipeline.sources import Source
from pipeline.sources.regions import placed

CHUNK_RECORDS = 5_000
"""Records in one chunk: some seconds of work with pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A spooled range of one split's records; small, so that any task runner can carry it."""

    source: str
    """Its name in the catalog."""
    family: str
    reader_version: int
    settings: str
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
class Built:
    """What one chunk became: staged files and counts."""

    key: str
    samples: Path
    images: Path | None
    refusals: Path
    records: int
    pictures: int
    refused: int
    bytes: int
    hashes: dict[str, str]
    """Picture file -> SHA-256, for the cache of file hashes; "" where it is missing."""
    containers: dict[str, str]
    """As in its chunk: what was built from other content is built again."""


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


@no_collection()
def cut(job: Job, catalog: Path, chunk_records: int = CHUNK_RECORDS) -> list[Chunk]:
    """Read a source's annotations and spool its records in chunks.

    Raises:
        DataError: a file is broken; nothing of the source is ingested then.
    """
    source = job.reader()
    staging = staging_of(catalog, source.name)
    staging.mkdir(parents=True, exist_ok=True)
    chunks = []
    with FileHashes(catalog) as hashes:
        for split, files in splits_of(source, job).items():
            contents = {_relative(file, job.root): hashes.of(file) for file in files}
            items = source.read(job.root, split)
            for number, pairs in enumerate(chunked(checked(items), chunk_records)):
                part = [item for item, _ in pairs]
                chunk = Chunk(
                    source=source.name,
                    family=source.family,
                    reader_version=source.version,
                    settings=job.settings,
                    root=job.root,
                    split=split,
                    first=number * chunk_records,
                    count=len(part),
                    files=contents,
                    containers=_containers(part, job.root, hashes),
                    key=key_of(source, job.settings, split, (content for _, content in pairs)),
                    staging=staging,
                )
                _write(chunk.spool, pickle.dumps(part, protocol=5))
                chunks.append(chunk)
    return chunks


@no_collection()
def build(chunk: Chunk, catalog: Path) -> Built:
    """Read a chunk's pictures, check everything, and stage its parts; reuse what a killed run left."""
    if (done := _finished(chunk)) is not None:
        return done
    items: list[Record | Refusal] = pickle.loads(chunk.spool.read_bytes())
    store = Catalog.open(catalog).image_store()
    pictures: dict[tuple[str, str | None], tuple[str, Picture] | Refused] = {}
    new: dict[str, tuple[Picture, bytes]] = {}
    hashes: dict[str, str] = {}
    records: list[Record] = []
    image_ids: list[list[str]] = []
    sizes: list[list[tuple[int, int]]] = []
    refusals: list[Refusal] = []
    read = 0
    for item in items:
        if isinstance(item, Refusal):
            refusals.append(item)
            continue
        try:
            found = []
            for ref in item.images:
                place = (ref.path, ref.member)
                if place not in pictures:
                    pictures[place], data = _picture(chunk.root, ref, hashes)
                    read += len(data)
                    outcome = pictures[place]
                    if not isinstance(outcome, Refused):
                        image_id = outcome[0]
                        if image_id not in store and image_id not in new:
                            new[image_id] = (outcome[1], data)
                outcome = pictures[place]
                if isinstance(outcome, Refused):
                    raise outcome
                found.append(outcome)
            displayed = tuple(picture.displayed for _, picture in found)
            check_record(item)
            item, aside = settled(placed(item, displayed), displayed)
        except Refused as reason:
            refusals.append(refusal_of(item, reason))
            continue
        records.append(item)
        refusals += aside
        image_ids.append([image_id for image_id, _ in found])
        sizes.append(list(displayed))
    fingerprint = _digest([chunk.key, image_ids, [asdict(refusal) for refusal in refusals]])
    entry = LedgerEntry(
        source=chunk.source,
        split=chunk.split,
        files=chunk.files,
        key=chunk.key,
        reader_version=chunk.reader_version,
        ingest_version=INGEST_VERSION,
        first=chunk.first,
        count=chunk.count,
        pictures_refused={
            path: hashes.get(path, "")
            for (path, member), outcome in pictures.items()
            if isinstance(outcome, Refused) and member is None
        },
        containers=chunk.containers,
        settings=chunk.settings,
    )
    samples = chunk.staging / f"{fingerprint}.parquet"
    table = sample_table(records, image_ids=image_ids, sizes=sizes, family=chunk.family)
    write_part(samples, entry.attach(table), binary=None)
    images = None
    if new:
        # Named by what it holds: the same records may come again with other pictures.
        images = chunk.staging / f"{_digest(sorted(new))}.images.parquet"
        write_part(images, image_table(new), binary="data")
    refused = chunk.staging / f"{fingerprint}.refusals.parquet"
    write_part(refused, refusal_table(refusals), binary=None)
    built = Built(
        key=chunk.key,
        samples=samples,
        images=images,
        refusals=refused,
        records=len(records),
        pictures=len(new),
        refused=len(refusals),
        bytes=read,
        hashes=hashes,
        containers=chunk.containers,
    )
    _write(chunk.receipt, orjson.dumps(asdict(built), default=str))
    return built


def _digest(values: object) -> str:
    return hashlib.sha256(orjson.dumps(values)).hexdigest()


def _picture(
    root: Path, ref: Any, hashes: dict[str, str]
) -> tuple[tuple[str, Picture] | Refused, bytes]:
    try:
        data = read_picture(root, ref)
        image_id = hashlib.sha256(data).hexdigest()
        if ref.member is None:
            hashes[ref.path] = image_id
        return (image_id, _measured(image_id, data)), data
    except Refused as reason:
        if ref.member is None:
            hashes.setdefault(ref.path, "")
        return reason, b""


_MEASURED: dict[str, Picture] = {}
"""Pictures this process has decoded: shuffled records show one again in every chunk."""
MOST_MEASURED = 200_000


def _measured(image_id: str, data: bytes) -> Picture:
    picture = _MEASURED.get(image_id)
    if picture is None:
        picture = measure(data)
        if len(_MEASURED) >= MOST_MEASURED:
            _MEASURED.clear()
        _MEASURED[image_id] = picture
    return picture


def _containers(items: list[Record | Refusal], root: Path, hashes: FileHashes) -> dict[str, str]:
    records = (item for item in items if isinstance(item, Record))
    paths = {ref.path for item in records for ref in item.images if ref.member is not None}
    return {path: _hash(path, root, hashes) for path in sorted(paths)}


def _hash(path: str, root: Path, hashes: FileHashes) -> str:
    try:
        return hashes.of_or_empty(inside(root, path))
    except Refused:
        return ""


def _relative(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _finished(chunk: Chunk) -> Built | None:
    """Return what an earlier run built of this chunk, if its pictures are still the same."""
    if not chunk.receipt.exists():
        return None
    values = json.loads(chunk.receipt.read_bytes())
    if set(values) != {field.name for field in fields(Built)}:
        # A receipt of another version of the program.
        return None
    built = Built(
        **values
        | {
            name: Path(values[name]) if values[name] else None
            for name in ("samples", "images", "refusals")
        }
    )
    paths = (built.samples, built.images, built.refusals)
    if built.containers != chunk.containers:
        return None
    if not all(path is None or path.exists() for path in paths):
        return None
    if any(_content(chunk.root, path) != known for path, known in built.hashes.items()):
        return None
    return built


def _content(root: Path, path: str) -> str:
    try:
        return hashlib.sha256(inside(root, path).read_bytes()).hexdigest()
    except (OSError, Refused, RuntimeError):
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Whether a source must be ingested again, and why."""

    job: Job
    reasons: tuple[str, ...]
    live: int
    """Chunks that stand in the catalog now."""

    @property
    def up_to_date(self) -> bool:
        return not self.reasons


def survey(job: Job, catalog: Path) -> Survey:
    """Compare a source's files, pictures, reader and settings with the ledger."""
    source = job.reader()
    wanted = splits_of(source, job)
    entries = live_entries(catalog, source.name) if (catalog / "samples").exists() else {}
    if not entries:
        return Survey(job=job, reasons=("never ingested",), live=0)
    reasons: list[str] = []
    known = {entry.split for entry in entries.values()}
    reasons += [f"new split {split}" for split in wanted if split not in known]
    reasons += [f"split {split} no longer asked for" for split in sorted(known - set(wanted))]
    with FileHashes(catalog) as hashes:
        reasons += _changed_files(job, wanted, entries, hashes)
        if not reasons:
            reasons += _changed_pictures(job, catalog, entries, hashes)
    if not reasons and (lost := missing(Catalog.open(catalog), source.name)):
        reasons.append(f"pictures no longer stored: {len(lost):,}, such as {lost[0]}")
    return Survey(job=job, reasons=tuple(dict.fromkeys(reasons)), live=len(entries))


def _changed_files(
    job: Job,
    wanted: dict[str, tuple[Path, ...]],
    entries: dict[str, LedgerEntry],
    hashes: FileHashes,
) -> Iterator[str]:
    version = job.reader().version
    for entry in entries.values():
        if entry.reader_version != version or entry.ingest_version != INGEST_VERSION:
            yield "the reader has a new version"
            return
        if entry.settings != job.settings:
            yield "other options"
            return
    for split, files in wanted.items():
        now = {_relative(file, job.root): hashes.of(file) for file in files}
        for entry in entries.values():
            if entry.split == split and entry.files != now:
                names = [n for n in sorted(now | entry.files) if now.get(n) != entry.files.get(n)]
                yield f"changed: {', '.join(names)}"


def _changed_pictures(
    job: Job, catalog: Path, entries: dict[str, LedgerEntry], hashes: FileHashes
) -> Iterator[str]:
    for path, known in Catalog.open(catalog).picture_files(job.label):
        if hashes.of_or_empty(job.root / path) != known:
            yield f"changed picture: {path}"
    for entry in entries.values():
        for path, known in entry.pictures_refused.items():
            if _hash(path, job.root, hashes) != known:
                yield f"changed picture: {path}"
        for path, known in entry.containers.items():
            if _hash(path, job.root, hashes) != known:
                yield f"changed container: {path}"


def commit(job: Job, chunks: list[Chunk], built: list[Built], catalog: Path) -> bool:
    """Replace a source in one commit; return whether a new table version was written."""
    store = Catalog.open(catalog)
    with FileHashes(catalog) as hashes:
        for part in built:
            hashes.learn(job.root, part.hashes)
    version = store.version
    store.commit_source(
        job.label,
        samples=[part.samples for part in built],
        images=[part.images for part in built if part.images is not None],
        refusals=[part.refusals for part in built],
    )
    shutil.rmtree(staging_of(catalog, job.label), ignore_errors=True)
    return Catalog.open(catalog).version != version


def ingest(job: Job, catalog: Path, *, run: Callable[[Chunk], Built] | None = None) -> list[Built]:
    """Ingest one source in this process; what the flows do with many."""
    if not (catalog / "cuvee.json").exists():
        Catalog.create(catalog)
    if survey(job, catalog).up_to_date:
        return []
    chunks = cut(job, catalog)
    built = [run(chunk) if run else build(chunk, catalog) for chunk in chunks]
    commit(job, chunks, built, catalog)
    return built


def survey_table(catalog: Path, jobs: Sequence[Job]) -> Table:
    """Return the table of `cuvee ingest --dry-run`."""
    table = Table(title="What an ingest would do", title_justify="left")
    for column in ("source", "", "why"):
        table.add_column(column)
    for job in jobs:
        found = survey(job, catalog)
        state = "up to date" if found.up_to_date else "redo"
        table.add_row(job.label, state, "\n".join(found.reasons))
    return table
