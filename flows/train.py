"""When a run trains: check the run file, then start its processes."""

from collections.abc import Callable
from pathlib import Path

from prefect import flow, task
from rich.console import Console

from model.config import RunConfig
from model.launch import launch
from model.progress import Metrics

OnStep = Callable[[Metrics], None]
launch_processes = task(name="train")(launch)


@flow(name="train", validate_parameters=False)
def train_flow(
    config: RunConfig, on_step: OnStep | None = None, console: Console | None = None
) -> int:
    """Train a run to its last step; return the exit code of its processes."""
    code: int = launch_processes.fn(config, on_step, console)
    return code


def run_train(run: Path, console: Console) -> int:
    """Train what a run file describes; return 0, or the first exit code that is not."""
    config = RunConfig.load(run)
    code = train_flow(config)
    if code:
        console.print(f"training stopped with exit code {code}; run it again to continue")
    return code
