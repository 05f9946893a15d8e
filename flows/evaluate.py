"""When a run is scored: generate, score, print the table, write the page."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from catalog import Catalog
from catalog.statistics import Statistics
from flows.pages import report_page
from flows.progress import current, show_in
from flows.wrong import wrong_page
from model.config import RunConfig
from model.evaluate import Evaluation, evaluate, folder_of
from model.evaluate import Progress as Answered
from model.quantise import Precision
from model.scoreboard import scoreboard
from model.suite import Asked, Suite
from pipeline.plan import Plan

evaluate_run = task(name="evaluate")(evaluate)


@flow(name="evaluate", validate_parameters=False)
def evaluate_flow(
    run: Path,
    split: str,
    sources: Sequence[str] | None = None,
    limit: int | None = None,
    progress: Answered | None = None,
    precision: Precision = "fp32",
) -> Evaluation:
    """Score a run on one split."""
    evaluation: Evaluation = evaluate_run.fn(
        run, split, sources=sources, limit=limit, precision=precision, progress=progress
    )
    return evaluation


@flow(name="evaluate suite", validate_parameters=False)
def suite_flow(run: Path, benchmarks: Sequence[Asked]) -> list[Evaluation]:
    """Score a run by each benchmark of a suite."""
    return [
        evaluate_run.fn(
            run,
            asked.split,
            sources=[asked.source],
            limit=asked.limit,
            blind=asked.blind,
            suffix=asked.instruction,
            progress=_bars(current()),
        )
        for asked in benchmarks
    ]


def run_evaluate(
    run: Path,
    split: str,
    *,
    sources: Sequence[str] | None = None,
    limit: int | None = None,
    precision: Precision = "fp32",
    console: Console,
) -> Evaluation:
    """Score a run, print its scores beside the baselines, and write the run's report."""
    folder_of(run)
    with _progress(console) as progress:
        show_in(progress)
        evaluation = evaluate_flow(run, split, sources, limit, _bars(progress), precision)
    console.print(scoreboard(evaluation.scores))
    _report(evaluation.folder.parents[1], console)
    _wrong(evaluation.folder / "wrong.html", [evaluation], console)
    return evaluation


def run_suite(run: Path, suite: Path, console: Console) -> list[Evaluation]:
    """Score a run by a suite, print one table, and write the run's report."""
    folder_of(run)
    benchmarks = Suite.load(suite).benchmarks
    with _progress(console) as progress:
        show_in(progress)
        found = suite_flow(run, benchmarks)
    console.print(scoreboard([evaluation.scores for evaluation in found]))
    for folder in dict.fromkeys(evaluation.folder for evaluation in found):
        console.print(f"predictions: {folder / 'predictions'}", soft_wrap=True, highlight=False)
    folder = found[0].folder.parents[1]
    _report(folder, console)
    _wrong(folder / "eval" / f"{suite.stem}.wrong.html", found, console)
    return found


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _bars(progress: Progress) -> Answered:
    """Return what shows a bar for each source that is being answered."""
    rows: dict[str, TaskID] = {}

    def show(source: str, done: int, total: int) -> None:
        if source not in rows:
            rows[source] = progress.add_task(source, total=total)
        progress.update(rows[source], completed=done)

    return show


def _wrong(path: Path, found: Sequence[Evaluation], console: Console) -> None:
    run = found[0].folder.parents[1]
    page = wrong_page(
        path,
        catalog=Catalog.open(RunConfig.load(run / "run.yaml").catalog),
        title=f"Wrong answers of {run.name}",
        judged=[(each.folder, tuple(each.scores["sources"])) for each in found],
    )
    console.print(f"wrong answers: {page}", soft_wrap=True, highlight=False)


def _report(folder: Path, console: Console) -> None:
    config = RunConfig.load(folder / "run.yaml")
    catalog = Catalog.open(config.catalog)
    page = report_page(
        folder / "report.html",
        catalog=catalog,
        run=folder,
        plan=Plan.open(config.catalog, config.plan),
        statistics=Statistics.of(catalog),
    )
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
