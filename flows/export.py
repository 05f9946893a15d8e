"""When a plan is exported or a catalog copied: one piece after the other, with a bar."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from catalog.errors import UserError
from catalog.push import push
from catalog.remote import Remote, is_remote
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


def run_push(console: Console, catalog: Path, url: str, options: Sequence[str]) -> None:
    """Copy a catalog to an object store and say how much was new.

    Raises:
        UserError: no such kind of store, or an option that is not KEY=VALUE.
    """
    if not is_remote(url):
        raise UserError(f"{url} is no object store", fix="such as s3://bucket/prefix")
    if wrong := [option for option in options if "=" not in option]:
        raise UserError(f"{wrong[0]!r} is not KEY=VALUE", fix="--option aws_region=eu-west-1")
    remote = Remote(url, dict(option.split("=", 1) for option in options))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("files", total=None)
        copied, size = push(
            catalog,
            remote,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{copied:,} files, {size / 1e6:,.1f} MB copied to {url}", highlight=False)
