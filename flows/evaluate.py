"""When a run is scored: generate, score, print the table, write the page."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from rich.console import Console

from catalog import Catalog
from catalog.statistics import Statistics
from flows.pages import report_page
from model.config import RunConfig
from model.evaluate import Evaluation, evaluate
from model.scoreboard import scoreboard
from pipeline.plan import Plan

evaluate_run = task(name="evaluate")(evaluate)


@flow(name="evaluate", validate_parameters=False)
def evaluate_flow(
    run: Path, split: str, sources: Sequence[str] | None, limit: int | None
) -> Evaluation:
    """Score a run on one split."""
    evaluation: Evaluation = evaluate_run.fn(run, split, sources=sources, limit=limit)
    return evaluation


def run_evaluate(
    run: Path,
    split: str,
    *,
    sources: Sequence[str] | None = None,
    limit: int | None = None,
    console: Console,
) -> Evaluation:
    """Score a run, print its scores beside the baselines, and write the run's report."""
    with console.status("answering"):
        evaluation = evaluate_flow(run, split, sources, limit)
    console.print(scoreboard(evaluation.scores))
    folder = evaluation.folder.parents[1]
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
    return evaluation
