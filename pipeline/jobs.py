"""What to ingest: words of the command line, or `cuvee.yaml`."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from catalog.errors import UserError
from pipeline.config import load_yaml
from pipeline.sources import find


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One source to ingest from one folder."""

    source: str
    root: Path
    splits: tuple[str, ...] | None = None
    """Only these splits; None for all that the folder holds."""


class SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    root: Path
    splits: tuple[str, ...] | None = None


class IngestFile(BaseModel):
    """`cuvee.yaml`; paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: Path
    sources: tuple[SourceEntry, ...] = Field(min_length=1)


def jobs_of_file(path: Path) -> tuple[Path, tuple[Job, ...]]:
    """Return the catalog's folder and the jobs that a `cuvee.yaml` names."""
    entries = load_yaml(path, IngestFile)
    jobs = tuple(
        Job(source=entry.source, root=path.parent / entry.root, splits=entry.splits)
        for entry in entries.sources
    )
    return path.parent / entries.catalog, check_jobs(jobs)


def jobs_of_pairs(pairs: list[str]) -> tuple[Job, ...]:
    """Return the jobs of `NAME=ROOT` words.

    Raises:
        UserError: a word is no such pair, or names an unknown source.
    """
    jobs = []
    for pair in pairs:
        name, equals, root = pair.partition("=")
        if not equals or not name or not root:
            raise UserError(f"{pair!r} is not NAME=ROOT", fix="for example vqav2=/data/vqav2")
        jobs.append(Job(source=name, root=Path(root)))
    return check_jobs(tuple(jobs))


def check_jobs(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Return the jobs unchanged, if their sources exist and each is named once."""
    seen = set()
    for job in jobs:
        find(job.source)
        if job.source in seen:
            raise UserError(
                f"{job.source} is named twice", fix="one folder a source: unite the folders"
            )
        seen.add(job.source)
        if not job.root.is_dir():
            raise UserError(f"{job.source}: {job.root} is not a folder", fix="check the path")
    return jobs
