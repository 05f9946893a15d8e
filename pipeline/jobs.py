"""What to ingest: words of the command line, or `cuvee.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from catalog.errors import UserError
from pipeline.config import load_yaml
from pipeline.sources import Source, find


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One source to ingest from one folder."""

    source: str
    root: Path
    splits: tuple[str, ...] | None = None
    """Only these splits; None for all that the folder holds."""
    name: str = ""
    """Under which name the catalog keeps it; "" for the source's own."""
    options: str = ""
    """What the source is told beside its files, as JSON with sorted keys; "" for nothing."""

    @property
    def label(self) -> str:
        """The name in the catalog."""
        return self.name or self.source

    @property
    def settings(self) -> str:
        """What beside the files decides the records, for the ledger; "" for a plain job."""
        return f"{self.source} {self.options}" if self.name or self.options else ""

    def reader(self) -> Source:
        """Return the source under the job's name and with its options.

        Raises:
            UserError: no such source, or it does not take these options.
        """
        options = orjson.loads(self.options) if self.options else {}
        return find(self.source).of_job(self.label, options)


class SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    root: Path
    splits: tuple[str, ...] | None = None
    name: str = Field(default="", pattern=r"^[\w.+-]*$")
    """Under which name the catalog keeps it: tells two folders of one general format apart."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Such as `columns: {question: prompt}` for sources that read any table."""


class IngestFile(BaseModel):
    """`cuvee.yaml`; paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: Path
    sources: tuple[SourceEntry, ...] = Field(min_length=1)


def jobs_of_file(path: Path) -> tuple[Path, tuple[Job, ...]]:
    """Return the catalog's folder and the jobs that a `cuvee.yaml` names."""
    entries = load_yaml(path, IngestFile)
    jobs = tuple(
        Job(
            source=entry.source,
            root=path.parent / entry.root,
            splits=entry.splits,
            name=entry.name,
            options=_canonical(entry.options),
        )
        for entry in entries.sources
    )
    return path.parent / entries.catalog, check_jobs(jobs)


def _canonical(options: dict[str, Any]) -> str:
    return orjson.dumps(options, option=orjson.OPT_SORT_KEYS).decode() if options else ""


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
        job.reader()
        if job.label in seen:
            raise UserError(
                f"{job.label} is named twice",
                fix="one folder a source: unite the folders, or give one a `name`",
            )
        seen.add(job.label)
        if not job.root.is_dir():
            raise UserError(f"{job.label}: {job.root} is not a folder", fix="check the path")
    return jobs
