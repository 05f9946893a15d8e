"""When sources are ingested: survey, cut, build the chunks in parallel, commit each source whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.statistics import refused
from flows.progress import current, show_in
from pipeline.ingest import Built, build, commit, cut, survey
from pipeline.jobs import Job
from pipeline.proof import count_table, counts_of

RUNNERS = ("process", "thread", "ray", "dask")


def task_runner(name: str, workers: int | None) -> TaskRunner[Any]:
    """Return the Prefect task runner of a name.

    Raises:
        UserError: no such runner, or its package is not installed.
    """
    match name:
        case "process":
            return ProcessPoolTaskRunner(max_workers=workers)
        case "thread":
            return ThreadPoolTaskRunner(max_workers=workers)
        case "ray" | "dask":
            try:
                if name == "ray":
                    from prefect_ray import RayTaskRunner

                    ray: TaskRunner[Any] = RayTaskRunner(
                        init_kwargs={"num_cpus": workers} if workers else {}
                    )
                    return ray
                from prefect_dask import DaskTaskRunner

                dask: TaskRunner[Any] = DaskTaskRunner(
                    cluster_kwargs={"n_workers": workers} if workers else {}
                )
                return dask
            except ModuleNotFoundError as error:
                raise UserError(
                    f"the runner {name} is not installed", fix=f"pip install 'cuvee[{name}]'"
                ) from error
    raise UserError(f"no runner {name!r}", fix=f"one of {', '.join(RUNNERS)}")


build_chunk = task(name="build chunk", retries=0)(build)
cut_source = task(name="cut source")(cut)
commit_source = task(name="commit source")(commit)


@flow(name="ingest", validate_parameters=False)
def ingest_flow(catalog: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Ingest the sources one after the other; return the problem of each that was stopped."""
    progress = current()
    problems = {}
    for job in jobs:
        row = progress.add_task(job.label, total=None, records=0, pictures=0, refused=0, mb=0.0)
        try:
            chunks = cut_source.fn(job, catalog)
            progress.update(row, total=len(chunks))
            futures: list[PrefectFuture[Built]] = [
                build_chunk.submit(chunk, catalog) for chunk in chunks
            ]
            built = []
            totals: dict[str, Any] = {"records": 0, "pictures": 0, "refused": 0, "mb": 0.0}
            for future in as_completed(futures):
                part = future.result()
                built.append(part)
                totals["records"] += part.records
                totals["pictures"] += part.pictures
                totals["refused"] += part.refused
                totals["mb"] += part.bytes / 1e6
                progress.update(row, advance=1, **totals)
            # Parts end in any order; the catalog's order is the order of the files.
            order = {chunk.key: place for place, chunk in enumerate(chunks)}
            built.sort(key=lambda part: order[part.key])
            commit_source.fn(job, chunks, built, catalog)
        except CuveeError as error:
            problems[job.label] = str(error)
            progress.update(row, description=f"[red]{job.label}[/] stopped")
    return problems


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
    chosen = task_runner(runner, workers)
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
            problems |= ingest_flow.with_options(task_runner=chosen)(catalog, stale)
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
