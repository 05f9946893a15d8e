"""When sources are ingested: survey, cut, build the chunks in parallel, commit each source whole."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.statistics import refused
from flows.progress import current, show_in
from pipeline.ingest import Built, Chunk, commit, cut, survey
from pipeline.jobs import Job
from pipeline.proof import count_table, counts_of

RUNNERS = ("process", "thread", "ray", "dask", "local")
"""Those of Prefect, and `local`: processes of our own, recorded nowhere, and started at once."""
Builder = Callable[[Iterable[Chunk], Path], Iterable[Built]]
"""(chunks as they are cut, catalog) -> what they became, in their order."""


def ingest_all(catalog: Path, jobs: Sequence[Job], built: Builder) -> dict[str, str]:
    """Ingest the sources one after the other; return the problem of each that was stopped."""
    progress = current()
    problems = {}
    for job in jobs:
        row = progress.add_task(job.label, total=None, records=0, pictures=0, refused=0, mb=0.0)
        try:
            parts = []
            totals: dict[str, Any] = {"records": 0, "pictures": 0, "refused": 0, "mb": 0.0}
            for part in built(_counted(cut(job, catalog), progress, row), catalog):
                parts.append(part)
                totals["records"] += part.records
                totals["pictures"] += part.pictures
                totals["refused"] += part.refused
                totals["mb"] += part.bytes / 1e6
                progress.update(row, advance=1, **totals)
            commit(job, parts, catalog)
        except CuveeError as error:
            problems[job.label] = str(error)
            progress.update(row, description=f"[red]{job.label}[/] stopped")
    return problems


def _counted(chunks: Iterable[Chunk], progress: Progress, row: TaskID) -> Iterator[Chunk]:
    for number, chunk in enumerate(chunks, 1):
        progress.update(row, total=number)
        yield chunk


def _run(catalog: Path, jobs: Sequence[Job], runner: str, workers: int | None) -> dict[str, str]:
    if runner == "local":
        from flows.processes import processes

        with processes(workers) as pool:
            return ingest_all(catalog, jobs, pool.built)
    # Prefect takes a second to import.
    from flows.runners import ingest_flow, one_server, task_runner

    with_runner = ingest_flow.with_options(task_runner=task_runner(runner, workers))
    with one_server():
        return with_runner(catalog, jobs)


def run_ingest(
    catalog: Path,
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    runner: str = "process",
    console: Console,
    brief: bool = False,
) -> bool:
    """Ingest what is not up to date; return whether every source succeeded.

    `brief` leaves only the problems on the console.
    """
    if runner not in RUNNERS:
        raise UserError(f"no runner {runner!r}", fix=f"one of {', '.join(RUNNERS)}")
    if not (catalog / "cuvee.json").exists():
        Catalog.create(catalog)
    problems = {}
    stale = []
    for job in jobs:
        try:
            if not survey(job, catalog).up_to_date:
                stale.append(job)
        except CuveeError as error:
            problems[job.label] = str(error)
    if stale:
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[records]:>9,} records {task.fields[pictures]:>7,} new pictures "
                "{task.fields[refused]:>5,} refused {task.fields[mb]:>7,.1f} MB"
            ),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns, console=console, transient=brief, disable=brief and not console.is_terminal
        ) as progress:
            show_in(progress)
            problems |= _run(catalog, stale, runner, workers)
    if not brief:
        store = Catalog.open(catalog)
        console.print(_summary(store, jobs, stale))
        labels = [job.label for job in jobs]
        for name, reason, count, first in refused(store).rows():
            if name in labels:
                line = f"refused: {name}, {reason}, {count:,} records; the first: {first}"
                console.print(line, highlight=False, soft_wrap=True)
    for problem in problems.values():
        console.print(f"[red]stopped:[/] {problem}", highlight=False, soft_wrap=True)
    return not problems


def _summary(catalog: Catalog, jobs: Sequence[Job], stale: Sequence[Job]) -> Table:
    redone = {job.label for job in stale}
    states = {job.label: "ingested" if job.label in redone else "up to date" for job in jobs}
    counts = counts_of(catalog, {job.label: job.source for job in jobs})
    return count_table(
        f"{catalog.path}, version {catalog.version}",
        [count for count in counts if count.source in states],
        states,
    )
