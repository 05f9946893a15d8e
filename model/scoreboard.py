"""The scores of an evaluation as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def scoreboard(scores: Mapping[str, Any]) -> Table:
    """Return one row a source: the model's score between those of its baselines."""
    table = Table(title=f"split {scores['split']}, scores in percent", title_justify="left")
    for name in ("source", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("questions", "model", "blind", "majority"):
        table.add_column(name, justify="right")
    table.add_column("majority says")
    for source, result in scores["sources"].items():
        figures = [
            _percent(result[who], result["measure"]) for who in ("model", "blind", "majority")
        ]
        table.add_row(
            source, result["title"], f"{result['questions']:,}", *figures, _constant(result)
        )
        for name, value in (result["model"] or {}).items():
            if name.startswith("question_type/"):
                group = [_percent(result[who], name) for who in ("blind", "majority")]
                table.add_row("", f"  {name.partition('/')[2]}", "", f"{100 * value:.1f}", *group)
    return table


def _percent(figures: Mapping[str, float] | None, name: str) -> str:
    return "-" if figures is None or name not in figures else f"{100 * figures[name]:.1f}"


def _constant(result: Mapping[str, Any]) -> str:
    constant = result["majority_answer"]
    if constant is None:
        return "no training answers"
    if isinstance(constant, str):
        return constant if len(constant) <= 30 else constant[:29] + "…"
    return "mean box"
