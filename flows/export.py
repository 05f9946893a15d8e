"""When a plan is exported: its shards one after the other, with a bar."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from pipeline.export import export
from pipeline.trace import open_plan


def run_export(console: Console, plan: str, to: str, out: Path, *, catalog: Path | None) -> None:
    """Export a plan and say where it lies."""
    opened, folder = open_plan(plan, catalog)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{to} shards", total=None)
        shards = export(
            opened,
            folder,
            to,
            out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{len(shards)} shards in {out}", soft_wrap=True, highlight=False)
