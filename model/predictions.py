"""Anybody's predictions -> official figures, without our model.

Files are what benchmarks' servers take (see `model.benchmarks`), or items that hold their references.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog import Catalog
from catalog.errors import DataError, UserError
from model.baselines import baseline, predict
from model.benchmarks import Benchmark, Row, benchmark_of, picture_id, rows_for
from model.items import read_items
from model.metrics import METRICS, Metric

IDS = (
    "sample_id",
    "question_id",
    "questionId",
    "native_id",
    "id",
    "pid",
    "image_id",
    "image",
    "index",
)
"""Under which name a prediction's id stands, first found."""
SAID = (
    "response",
    "prediction",
    "predict",
    "answer",
    "text",
    "caption",
    "output",
    "direct_answer",
)
"""Under which name its words stand, first found: where others stand beside it, `answer` is the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The figures of a file of predictions."""

    metric: Metric
    figures: dict[str, float]
    majority: dict[str, float] | None
    """Figures of the constant answer; None where the catalog cannot say."""
    items: int
    missing: int
    """Questions without a prediction: they score as the metric says, mostly 0."""
    unknown: int
    """Predictions for questions that the split does not have."""


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a JSON list, JSON Lines, a JSON object id -> answer, Parquet, or a TSV.

    A folder holds several files of one benchmark; Parquet may be that of an evaluation (`model.items`).

    Raises:
        DataError: the file is none of these; says the line.
    """
    if file.is_dir():
        return [entry for part in sorted(file.glob("*.*")) for entry in read_predictions(part)]
    if not file.is_file():
        raise UserError(f"{file}: no such file", fix="name a file of predictions")
    if file.suffix == ".parquet":
        return read_items(file)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", file=file, fix="save it as UTF-8") from error
    if file.suffix == ".tsv":
        return [dict(row) for row in csv.DictReader(io.StringIO(text), delimiter="\t")]
    if file.suffix == ".txt":
        return [_of_mme(file, number, line) for number, line in _lines(text)]
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return [_line(file, number, line) for number, line in _lines(text)]
    if isinstance(whole, Mapping):
        # ScienceQA's file has one more level.
        whole = whole["results"] if whole.keys() == {"results"} else whole
        return [
            {"id": key, **value} if isinstance(value, Mapping) else {"id": key, "answer": value}
            for key, value in whole.items()
        ]
    entries = whole if isinstance(whole, list) else []
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            "no list of predictions",
            file=file,
            fix='write [{"question_id": 1, "answer": "cat"}, …]',
        )
    return entries


def _lines(text: str) -> Iterable[tuple[int, str]]:
    return ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())


def _of_mme(file: Path, number: int, line: str) -> dict[str, Any]:
    """Read `image, question, truth, answer`, tabs between them, of the subtask that names the file."""
    parts = line.split("\t")
    if len(parts) != 4:
        raise DataError(
            f"{len(parts)} fields, expected 4",
            file=file,
            record=f"line {number}",
            fix="write image, question, truth and answer with tabs between them, as MME's tool does",
        )
    image, question, reference, prediction = parts
    known = {"subtask": file.stem, "image": image, "question": question}
    return known | {"reference": reference, "prediction": prediction}


def _line(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON: {error}", file=file, record=f"line {number}", fix="write JSON or JSON Lines"
        ) from error
    if not isinstance(entry, dict):
        raise DataError(
            f"{entry!r:.60} is no object",
            file=file,
            record=f"line {number}",
            fix="write one a line",
        )
    return entry


def metric_of(name: str) -> Metric:
    """Return a metric.

    Raises:
        UserError: there is none of this name.
    """
    if name not in METRICS:
        raise UserError(f"no metric {name!r}", fix=f"one of {', '.join(METRICS)}")
    return METRICS[name]


def score_items(file: Path, metric: str, options: Mapping[str, Any] | None = None) -> Scored:
    """Score a file whose entries hold `prediction`, `reference` and the metric's extras.

    Raises:
        UserError: an unknown metric or option, or entries that lack a field.
    """
    found = metric_of(metric)
    chosen = dict(options or {})
    if unknown := sorted(set(chosen) - set(found.options)):
        known = ", ".join(found.options) or "none"
        raise UserError(f"{metric} has no option {', '.join(unknown)}", fix=f"it has: {known}")
    # Items of an evaluation have no reference where the release hides it.
    entries = [each for each in read_predictions(file) if each.get("reference", "") is not None]
    return Scored(
        metric=found,
        figures=found.aggregate(entries, **chosen),
        majority=None,
        items=len(entries),
        missing=sum(entry.get("prediction") is None for entry in entries),
        unknown=0,
    )


def score_split(file: Path, catalog: Catalog, source: str, split: str, boxes: str) -> Scored:
    """Score a benchmark's prediction file against a split of the catalog.

    `boxes` is the convention of boxes as text, where the benchmark asks for boxes.

    Raises:
        UserError: the catalog has no such split, its references are hidden, or no id matches.
    """
    bench = benchmark_of(source)
    metric = METRICS[bench.metric]
    rows = rows_for(catalog, source, split)
    if not rows:
        raise UserError(f"the catalog has no {source} {split}", fix="`cuvee stats` lists both")
    entries = [
        entry
        for entry in read_predictions(file)
        # Items of an evaluation say what they answer.
        if "sample_id" not in entry
        or (entry.get("source", source), entry.get("split", split)) == (source, split)
    ]
    said = _by_id(entries, file)
    constant = baseline(catalog, source)
    items, majority, used = [], [], set()
    for row in rows:
        reference = bench.reference(row)
        if reference is None:
            continue
        item = {name: row[name] for name in bench.types} | bench.extras(row)
        item["reference"] = reference
        if bench.boxes:
            size = {"width": row["widths"][0], "height": row["heights"][0]}
            item |= size | {"box_format": boxes}
        key = next((key for key in _keys(row, bench) if key in said), None)
        used.add(key)
        items.append(item | {"prediction": None if key is None else said[key]})
        if constant is not None:
            majority.append(item | {"prediction": predict(constant, row)})
    if not items:
        raise UserError(f"{source} {split} hides its answers", fix="send the file to its server")
    missing = sum(item["prediction"] is None for item in items)
    if missing == len(items):
        raise UserError(
            f"{file}: none of its {len(said):,} ids is in {source} {split}",
            fix=f"ids are like {rows[0]['native_id']!r}",
        )
    return Scored(
        metric=metric,
        figures=metric.aggregate(items),
        majority=metric.aggregate(majority) if majority else None,
        items=len(items),
        missing=missing,
        unknown=len(set(said) - used),
    )


def _by_id(entries: Sequence[Mapping[str, Any]], file: Path) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for number, entry in enumerate(entries):
        key = next((name for name in IDS if name in entry), None)
        words = next((name for name in SAID if name in entry), None)
        if key is None or words is None:
            raise DataError(
                f"fields {', '.join(entry)}: no id and answer among them",
                file=file,
                record=f"#{number}",
                fix=f"an id is one of {', '.join(IDS)}; an answer one of {', '.join(SAID)}",
            )
        if str(entry[key]) in said:
            raise DataError(
                "a second prediction for this question",
                file=file,
                record=entry[key],
                fix="keep one a question",
            )
        said[str(entry[key])] = entry[words]
    return said


def _keys(row: Row, bench: Benchmark) -> tuple[str, ...]:
    # A caption is of a picture, not of a row; the numbers of both may be the same.
    return str(row["sample_id"]), picture_id(row) if bench.once else str(row["native_id"])
