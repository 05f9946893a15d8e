"""Build chunks as Prefect tasks, by any of its runners; the flow is recorded where a server is configured."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from catalog.errors import UserError
from flows.ingest import ingest_all
from pipeline.build import Built, build
from pipeline.cut import Chunk
from pipeline.jobs import Job


def task_runner(name: str, workers: int | None) -> TaskRunner[Any]:
    """Return the Prefect task runner of a name.

    Raises:
        UserError: its package is not installed.
    """
    match name:
        case "process":
            return ProcessPoolTaskRunner(max_workers=workers)
        case "thread":
            return ThreadPoolTaskRunner(max_workers=workers)
    try:
        if name == "ray":
            from prefect_ray import RayTaskRunner

            ray: TaskRunner[Any] = RayTaskRunner(
                init_kwargs={
                    "num_cpus": workers,
                    "include_dashboard": False,
                    "logging_level": logging.WARNING,
                }
            )
            return ray
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise UserError(
            f"the runner {name} is not installed", fix=f"pip install 'cuvee[{name}]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.WARNING)
    dask: TaskRunner[Any] = DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers or len(os.sched_getaffinity(0)),
            "threads_per_worker": 1,
            "memory_limit": None,
            "dashboard_address": None,
        }
    )
    return dask


@contextmanager
def one_server() -> Iterator[None]:
    """Let all processes of a run report to one server: that which is configured, or one for this run.

    Prefect would start one in each process, seconds each, and take it for running before it listens:
    the process' next task is then refused its connection.
    """
    with (
        get_client(sync_client=True) as client,
        temporary_settings({PREFECT_API_URL: str(client.api_url)}),
    ):
        yield


build_chunk = task(name="build chunk", retries=0)(build)


def _built(chunks: Iterable[Chunk], catalog: Path) -> Iterator[Built]:
    futures = [build_chunk.submit(chunk, catalog) for chunk in chunks]
    yield from (future.result() for future in futures)


@flow(name="ingest", validate_parameters=False)
def ingest_flow(catalog: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Ingest the sources one after the other; return the problem of each that was stopped."""
    return ingest_all(catalog, jobs, _built)
