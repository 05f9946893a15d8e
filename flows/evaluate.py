"""When a run is scored: generate, score, print the table."""

from collections.abc import Sequence
from pathlib import Path

from model.evaluate import Evaluation, evaluate, score_table
from prefect import flow, task
from rich.console import Console

evaluate_run = task(name="evaluate")(evaluate)


@flow(name="evaluate", validate_parameters=False)
def evaluate_flow(
    run: Path, split: str, sources: Sequence[str] | None, limit: int | None
) -> Evaluation:
    """Score a run on one split."""
    return evaluate_run.fn(run, split, sources=sources, limit=limit)


def run_evaluate(
    run: Path,
    split: str,
    *,
    sources: Sequence[str] | None = None,
    limit: int | None = None,
    console: Console,
) -> Evaluation:
    """Score a run and print its scores beside the baselines."""
    evaluation = evaluate_flow(run, split, sources, limit)
    console.print(score_table(evaluation))
    return evaluation
