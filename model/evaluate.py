"""A trained run on a held-out split: answers, official scores, and the baselines beside them.

Writes RUN/eval/SPLIT/: `scores.json`, `items/SOURCE.parquet` (one row a question, `model.items`) and
`predictions/`, in the form each benchmark's server takes. Answers lie in `answers/SOURCE.jsonl` until
their source is judged.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog import Catalog
from catalog.errors import UserError
from model.baselines import baseline
from model.benchmarks import CHAT, Row, asked, benchmark_of, rows_for
from model.config import RunConfig
from model.items import write_items
from model.journal import Journal
from model.judge import Answer, judge
from model.submissions import submission
from pipeline.encode import EncoderConfig
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy

if TYPE_CHECKING:
    from model.answer import Answerer
    from model.quantise import Precision

EVALUATE_VERSION = 4
"""Raise when the same model and samples would give other results."""
Progress = Callable[[str, int, int], None]
"""(source, questions answered, questions), after each batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The results of one run on one split."""

    folder: Path
    scores: dict[str, Any]
    """As in `scores.json`, but only the sources that were asked for."""
    answered: tuple[str, ...]
    """Sources that were evaluated now; the others were up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A finished run, opened."""

    folder: Path
    catalog: Catalog
    encoder: EncoderConfig
    policy: ImagePolicy
    fingerprint: str
    """Of the model's files and of what words the questions."""

    @property
    def model(self) -> Path:
        return self.folder / "model"


def evaluate(
    run: Path,
    split: str,
    *,
    sources: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    blind: bool = True,
    suffix: str = "",
    precision: "Precision" = "fp32",
    progress: Progress | None = None,
) -> Evaluation:
    """Answer and score a split of the run's catalog; what is up to date is not answered again.

    Args:
        run: the run's folder, or its run file.
        split: official name, such as `val` or `testA`.
        sources: sources to judge; by default all with that split that are no free chat.
        limit: at most so many questions a source, always the same ones.
        batch_size: questions answered together.
        blind: also answer with blanked pictures.
        suffix: a line of instruction after each question.
        precision: of the weights; all but fp32 is kept apart, in a folder SPLIT-PRECISION.
        progress: called as the answers come.

    Raises:
        UserError: the run has no model, or the catalog no such split or source.
    """
    opened = open_run(run)
    names = _sources(opened.catalog, split, sources)
    smaller = () if precision == "fp32" else (precision,)
    folder = opened.folder / "eval" / "-".join([split, *smaller])
    before = _read(folder)
    options = [split, limit, blind, suffix, *smaller]
    keys = {source: _key(opened, source, options) for source in {*names, *before}}
    results = {
        source: result
        for source, result in before.items()
        if result["key"] == keys[source] and _is_whole(folder, source, result)
    }
    scores: dict[str, Any] = {
        "split": folder.name,
        "limit": limit,
        "catalog_version": opened.catalog.version,
        "model": opened.fingerprint,
    }
    if set(before) != set(results):
        # What is no longer true goes before anything takes its place.
        _save(folder, scores, results)
    missing = [source for source in names if source not in results]
    answerer = _answerer(opened, precision) if missing else None
    for source in missing:
        assert answerer is not None
        rows = rows_for(opened.catalog, source, split, limit)
        questions = [asked(row, suffix) for row in rows]
        with closing(Journal(folder / "answers" / f"{source}.jsonl", keys[source])) as journal:
            answers = _answers(
                answerer, opened.catalog, questions, source, batch_size, blind, journal, progress
            )
            constant = baseline(opened.catalog, source)
            result, items = judge(source, rows, answers, constant, opened.encoder.boxes)
            files = submission(source, rows, [answer.text for answer in answers])
            for name, text in files.items():
                _write(folder / "predictions" / name, text)
            write_items(_items(folder, source), items)
            results[source] = {"key": keys[source], "files": sorted(files), **result}
            _save(folder, scores, results)
            journal.remove()
    chosen = {source: results[source] for source in names}
    return Evaluation(folder=folder, scores=scores | {"sources": chosen}, answered=tuple(missing))


def folder_of(run: Path) -> Path:
    """Return the folder of a finished run, named by itself or by its run file.

    Raises:
        UserError: there is no such run, or it has no model yet.
    """
    if not run.exists():
        raise UserError(f"{run}: no such run", fix="name a run file, or the folder of its `output`")
    folder = run if run.is_dir() else RunConfig.load(run).output
    if not (folder / "model" / "cuvee.json").is_file():
        raise UserError(f"{folder}: no trained model there", fix="run `cuvee train` to its end")
    return folder


def open_run(run: Path) -> FinishedRun:
    """Open a finished run by its folder or its run file."""
    folder = folder_of(run)
    config = RunConfig.load(folder / "run.yaml")
    began = folder / "run.json"
    # The run file may leave the plan open; what the run began with says which it was.
    plan = json.loads(began.read_bytes())["plan"] if began.exists() else config.plan
    recipe = Plan.open(config.catalog, plan).header["recipe"]
    words: Mapping[str, Any] = recipe["encoder"]
    prompts = words.get("prompts") or {}
    encoder = EncoderConfig(
        tokenizer=folder / "model" / "tokenizer",
        boxes=words["boxes"],
        system=words["system"],
        prompts=prompts,
    )
    policy = ImagePolicy.model_validate(recipe["image"])
    said = [words["boxes"], words["system"], recipe["image"], *([prompts] if prompts else [])]
    digest = hashlib.sha256(json.dumps(said).encode())
    for file in sorted((folder / "model").rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return FinishedRun(
        folder=folder,
        catalog=Catalog.open(config.catalog),
        encoder=encoder,
        policy=policy,
        fingerprint=digest.hexdigest(),
    )


def _answerer(run: FinishedRun, precision: "Precision") -> "Answerer":
    from model.answer import Answerer

    return Answerer(run.model, run.encoder, run.policy, precision)


def _sources(catalog: Catalog, split: str, wanted: Sequence[str] | None) -> list[str]:
    """Return the sources to judge, sorted."""
    found = catalog.samples().select("source", "family", "split").unique().sort("source", "split")
    there: dict[str, list[str]] = {}
    families = {}
    for source, family, name in found.collect().iter_rows():
        there.setdefault(source, []).append(name)
        families[source] = family
    if wanted is not None and (unknown := sorted(set(wanted) - set(there))):
        raise UserError(
            f"the catalog has no source {', '.join(unknown)}", fix=f"one of {', '.join(there)}"
        )
    names = [name for name in there if families[name] not in CHAT] if wanted is None else wanted
    chosen = sorted(name for name in set(names) if split in there[name])
    if not chosen:
        lines = "; ".join(f"{name}: {', '.join(there[name])}" for name in sorted(set(names)))
        raise UserError(f"nothing to judge in split {split!r}", fix=f"the catalog has {lines}")
    return chosen


def _answers(
    answerer: "Answerer",
    catalog: Catalog,
    rows: Sequence[Row],
    source: str,
    batch_size: int,
    blind: bool,
    journal: Journal,
    progress: Progress | None,
) -> list[Answer]:
    """Return the answers to all rows, asking only what the journal does not hold."""
    left = [row for row in rows if row["sample_id"] not in journal.answers]
    # Questions of like length together: less padding.
    left.sort(key=lambda row: sum(len(turn["content"]) for turn in row["messages"]))
    for first in range(0, len(left), batch_size):
        batch = left[first : first + batch_size]
        found = answerer(
            batch,
            catalog.image_store(),
            longest=benchmark_of(source).longest,
            batch_size=batch_size,
            blind=blind,
        )
        journal.add([row["sample_id"] for row in batch], found)
        if progress:
            progress(source, len(rows) - len(left) + first + len(batch), len(rows))
    return [journal.answers[row["sample_id"]] for row in rows]


def _key(run: FinishedRun, source: str, chosen: Sequence[object]) -> str:
    """Return what the results of a source depend on, as one hash."""
    files = [file.name for file in run.catalog.files("samples", source=source)]
    identity = [EVALUATE_VERSION, run.fingerprint, source, *chosen, files]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _items(folder: Path, source: str) -> Path:
    return folder / "items" / f"{source}.parquet"


def _is_whole(folder: Path, source: str, result: Mapping[str, Any]) -> bool:
    """Tell whether all files of a source are there."""
    files = [folder / "predictions" / name for name in result["files"]]
    return all(file.exists() for file in (_items(folder, source), *files))


def _read(folder: Path) -> dict[str, Any]:
    """Return the results that a folder holds, by source; those of older versions are not taken."""
    if not (folder / "scores.json").exists():
        return {}
    found: dict[str, Any] = json.loads((folder / "scores.json").read_bytes())["sources"]
    return {source: result for source, result in found.items() if "files" in result}


def _save(folder: Path, scores: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write the scores; items of other sources go."""
    for file in folder.glob("items/*.parquet"):
        if file.stem not in results:
            file.unlink()
    whole = {**scores, "sources": dict(sorted(results.items()))}
    _write(folder / "scores.json", json.dumps(whole, indent=1))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)
