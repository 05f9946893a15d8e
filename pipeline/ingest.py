"""Official files -> catalog, in three plain steps: cut a source, build its parts, commit it whole.

Built parts wait in a staging folder until the source's one commit: a killed run finds them there.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from catalog import Catalog
from catalog.ledger import FileHashes, LedgerEntry, entries_of
from catalog.repair import missing
from pipeline.build import Built, build
from pipeline.cut import (
    CHUNK_RECORDS,
    Chunk,
    cut,
    hash_inside,
    relative_to,
    splits_of,
    staging_of,
)
from pipeline.items import INGEST_VERSION, no_collection
from pipeline.jobs import Job


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


@no_collection()
def survey(job: Job, catalog: Path) -> Survey:
    """Compare a source's files, pictures, reader and settings with the ledger."""
    source = job.reader()
    wanted = splits_of(source, job)
    held = Catalog.open(catalog) if (catalog / "samples").exists() else None
    entries = entries_of(held.files("samples", source=source.name)) if held else {}
    if held is None or not entries:
        return Survey(job=job, reasons=("never ingested",), live=0)
    reasons: list[str] = []
    known = {entry.split for entry in entries.values()}
    reasons += [f"new split {split}" for split in wanted if split not in known]
    reasons += [f"split {split} no longer asked for" for split in sorted(known - set(wanted))]
    with FileHashes(catalog) as hashes:
        reasons += _changed_files(job, wanted, entries, hashes)
        if not reasons:
            reasons += _changed_pictures(job, held, entries, hashes)
    if not reasons and (lost := missing(held, source.name)):
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
        now = {relative_to(job.root, file): hashes.of(file) for file in files}
        for entry in entries.values():
            if entry.split == split and entry.files != now:
                names = [n for n in sorted(now | entry.files) if now.get(n) != entry.files.get(n)]
                yield f"changed: {', '.join(names)}"


def _changed_pictures(
    job: Job, held: Catalog, entries: dict[str, LedgerEntry], hashes: FileHashes
) -> Iterator[str]:
    for path in hashes.changed(job.root, held.picture_files(job.label)):
        yield f"changed picture: {path}"
    for entry in entries.values():
        for path, known in entry.pictures_refused.items():
            if hash_inside(path, job.root, hashes) != known:
                yield f"changed picture: {path}"
        for path, known in entry.containers.items():
            if hash_inside(path, job.root, hashes) != known:
                yield f"changed container: {path}"


def commit(job: Job, built: Sequence[Built], catalog: Path) -> bool:
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


def ingest(job: Job, catalog: Path) -> list[Built]:
    """Ingest one source in this process; what the flows do with many."""
    if not (catalog / "cuvee.json").exists():
        Catalog.create(catalog)
    if survey(job, catalog).up_to_date:
        return []
    built = [build(chunk, catalog) for chunk in cut(job, catalog)]
    commit(job, built, catalog)
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


__all__ = [
    "CHUNK_RECORDS",
    "Built",
    "Chunk",
    "Survey",
    "build",
    "commit",
    "cut",
    "ingest",
    "survey",
    "survey_table",
]
