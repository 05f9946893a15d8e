"""What `cuvee eval --predictions` prints; no flow is started, no model loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from catalog import Catalog
from catalog.errors import UserError
from model.predictions import score_items, score_split


def show_predictions(
    console: Console,
    file: Path,
    *,
    metric: str | None,
    options: Sequence[str],
    catalog: Path | None,
    source: str | None,
    split: str | None,
    boxes: str,
) -> None:
    """Score a file by a metric, or against a split of a catalog, and print the figures.

    Raises:
        UserError: neither is named, or both are.
    """
    if metric is not None and catalog is None:
        scored = score_items(file, metric, _options(options))
    elif metric is None and catalog is not None and source is not None and split is not None:
        scored = score_split(file, Catalog.open(catalog), source, split, boxes)
    else:
        raise UserError(
            "say what to score the predictions against",
            fix="--metric NAME where the file holds references, or --catalog DIR --source S --split X",
        )
    table = Table(title=scored.metric.title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("figure")
    table.add_column("predictions", justify="right")
    if scored.majority is not None:
        table.add_column("majority answer", justify="right")
    for name, value in scored.figures.items():
        beside = [] if scored.majority is None else [_number(scored.majority.get(name))]
        table.add_row(name, _number(value), *beside)
    console.print(table)
    console.print(
        f"{scored.items:,} questions, {scored.missing:,} without a prediction, "
        f"{scored.unknown:,} predictions for no question of these",
        highlight=False,
    )


def _options(words: Sequence[str]) -> dict[str, Any]:
    pairs = [word.partition("=") for word in words]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise UserError(f"option {wrong[0]!r} has no value", fix="write --option NAME=VALUE")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
