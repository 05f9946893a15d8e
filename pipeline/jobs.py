"""What to ingest: words of the command line, or `cuvee.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import Field

from catalog.errors import UserError
from pipeline.checks import Check
from pipeline.config import load_yaml
from pipeline.sources import Source, find
from pipeline.typed import Typed


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
    check: Check = "decode"
    """How its pictures are checked."""

    @property
    def label(self) -> str:
        """The name in the catalog."""
        return self.name or self.source

    @property
    def settings(self) -> str:
        """What beside the files decides the records, for the ledger; "" for a plain job."""
        told = f"{self.source} {self.options}" if self.name or self.options else ""
        return told if self.check == "decode" else f"{told} check={self.check}".lstrip()

    def reader(self) -> Source:
        """Return the source under the job's name and with its options.

        Raises:
            UserError: no such source, or it does not take these options.
        """
        options = orjson.loads(self.options) if self.options else {}
        return find(self.source).of_job(self.label, options)


class SourceEntry(Typed):
    source: str
    root: Path
    splits: tuple[str, ...] | None = None
    name: str = Field(default="", pattern=r"^[\w.+-]*$")
    """Under which name the catalog keeps it: tells two folders of one general format apart."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Such as `columns: {question: prompt}` for sources that read any table."""
    check: Check = "decode"
    """`markers`: JPEGs are not decoded, for releases whose pictures are known to be sound."""


class IngestFile(Typed):
    """`cuvee.yaml`; paths are relative to the file."""

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
            options=_canonical(entry.source, entry.options),
            check=entry.check,
        )
        for entry in entries.sources
    )
    return path.parent / entries.catalog, check_jobs(jobs)


def _canonical(source: str, options: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(dict(options), option=orjson.OPT_SORT_KEYS).decode() if options else ""
    except TypeError as error:
        raise UserError(
            f"{source}: its options hold what JSON cannot say: {error}",
            fix="give texts, numbers, lists and `name: value`, quotes around a name that is a number",
        ) from error


def jobs_of_pairs(
    pairs: Sequence[str], options: Sequence[str] = (), check: Check = "decode"
) -> tuple[Job, ...]:
    """Return the jobs of `NAME=ROOT` words, with the options of other words.

    Raises:
        UserError: a word is no such pair, or names an unknown source or option.
    """
    roots = []
    for pair in pairs:
        name, equals, root = pair.partition("=")
        if not equals or not name or not root:
            raise UserError(f"{pair!r} is not NAME=ROOT", fix="for example vqav2=/data/vqav2")
        roots.append((name, Path(root)))
    told = options_of_words(options, [name for name, _ in roots])
    jobs = [
        Job(source=name, root=root, options=_canonical(name, told.get(name, {})), check=check)
        for name, root in roots
    ]
    return check_jobs(tuple(jobs))


def options_of_words(words: Sequence[str], sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return source -> its options, of words `NAME=VALUE` or `SOURCE.NAME=VALUE`; a value is YAML.

    >>> options_of_words(["columns={images: pic}", "hf.license=MIT"], ["hf"])
    {'hf': {'columns': {'images': 'pic'}, 'license': 'MIT'}}

    Raises:
        UserError: a word is neither, leaves its source open, or says what another said.
    """
    told: dict[str, dict[str, Any]] = {}
    for word in words:
        left, equals, value = word.partition("=")
        source, dot, name = left.rpartition(".")
        if not equals or not name or bool(dot) != bool(source):
            raise UserError(
                f"option {word!r} is not NAME=VALUE",
                fix="for example --option columns='{images: pic}'",
            )
        if not dot:
            if len(set(sources)) > 1:
                raise UserError(
                    f"option {word!r} does not say whose it is",
                    fix=f"one of {', '.join(f'{each}.{name}=…' for each in sources)}",
                )
            source = sources[0]
        elif source not in sources:
            raise UserError(
                f"option {word!r}: {source!r} is not ingested here",
                fix=f"SOURCE.NAME=VALUE with a source of {', '.join(sources)}; what is inside an "
                "option stands in its value, such as columns='{images: pic}'",
            )
        mine = told.setdefault(source, {})
        if name in mine:
            raise UserError(f"option {name} of {source} is given twice", fix="give it once")
        try:
            mine[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            raise UserError(
                f"option {word!r}: its value is not YAML: {problem}",
                fix="quotes around a text with marks, such as license='\"a: b\"'",
            ) from error
    return told


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
