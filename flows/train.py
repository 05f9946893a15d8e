"""When a run trains: check the run file, plan its recipes, then start its processes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from prefect import flow, task
from rich.console import Console

from catalog import Catalog
from catalog.errors import UserError
from flows.plan import plan_flow
from model.config import RunConfig
from model.launch import launch
from model.progress import Metrics
from pipeline.encode import Encoder
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight

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
    config = plan_recipes(RunConfig.load(run), console)
    code = train_flow(config)
    if code:
        console.print(f"training stopped with exit code {code}; run it again to continue")
    return code


def plan_recipes(config: RunConfig, console: Console) -> RunConfig:
    """Return a run whose recipes are planned, those of its stages too.

    What has begun keeps its plan while its recipe says the same, whatever came into the catalog.

    Raises:
        UserError: a recipe cannot be met, or several processes would plan it.
    """
    if config.recipes and "RANK" in os.environ:
        raise UserError(
            f"{config.recipes[0]}: processes that a launcher started do not plan",
            fix="`cuvee plan` it first, and name the plan in the run file",
        )
    made: dict[Path, str] = {}

    def planned(recipe: Path, output: Path) -> str:
        mixture = Mixture.load(recipe)
        if before := _begun(config.catalog, output, mixture):
            return before
        if recipe not in made:
            Catalog.open(config.catalog)
            plan = plan_flow(Path(config.catalog), mixture)
            console.print(preflight(plan))
            made[recipe] = plan.id
        return made[recipe]

    plans = [planned(run.recipe, run.output) if run.recipe else run.plan for run in config.unfold()]
    if not config.stages:
        return config.model_copy(update={"plan": plans[0], "recipe": None})
    stages = tuple(
        stage.model_copy(update={"plan": plan, "recipe": None})
        for stage, plan in zip(config.stages, plans, strict=True)
    )
    return config.model_copy(update={"recipe": None, "stages": stages})


def _begun(catalog: Path | str, output: Path, mixture: Mixture) -> str | None:
    """Return the plan a run's folder began with, if it was made from this recipe."""
    mark = output / "run.json"
    if not mark.exists():
        return None
    plan = Plan.open(catalog, json.loads(mark.read_bytes())["plan"])
    words = Encoder(mixture.encoder).fingerprint
    same = (plan.header["recipe"], plan.header["encoder"]) == (mixture.recorded(), words)
    return plan.id if same else None
