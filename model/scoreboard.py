"""The scores of an evaluation as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

WHO = ("model", "blind", "majority")


def scoreboard(scores: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a source: the model's score between those of its baselines.

    Scores of several splits make one table.
    """
    every = [scores] if isinstance(scores, Mapping) else list(scores)
    splits = list(dict.fromkeys(each["split"] for each in every))
    title = f"split {splits[0]}, scores in percent" if len(splits) == 1 else "scores in percent"
    table = Table(title=title, title_justify="left")
    for name in ("source", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("questions", *WHO):
        table.add_column(name, justify="right")
    table.add_column("majority says")
    for each in every:
        for source, result in each["sources"].items():
            name = source if len(splits) == 1 else f"{source} {each['split']}"
            _add(table, name, result)
    return table


def _add(table: Table, name: str, result: Mapping[str, Any]) -> None:
    scale = 100.0 if result["most"] is None else 1.0
    figures = [_percent(result[who], result["measure"], scale) for who in WHO]
    table.add_row(name, result["title"], f"{result['questions']:,}", *figures, _constant(result))
    if drawn := result.get("masks"):
        table.add_row("", "  masks, cIoU", f"{drawn['scored']:,}", f"{100 * drawn['ciou']:.1f}")
    for group in result["model"] or {}:
        if group.startswith("question_type/"):
            shares = [_percent(result[who], group) for who in WHO]
            table.add_row("", f"  {group.partition('/')[2]}", "", *shares)


def _percent(figures: Mapping[str, float] | None, name: str, scale: float = 100.0) -> str:
    return "-" if figures is None or name not in figures else f"{scale * figures[name]:,.1f}"


def _constant(result: Mapping[str, Any]) -> str:
    constant = result["majority_answer"]
    if constant is None:
        return "no training answers"
    if isinstance(constant, str):
        return constant if len(constant) <= 30 else constant[:29] + "…"
    return "mean box"
