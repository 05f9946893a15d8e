"""When a plan is made: encode what is new, then mix, pack and commit."""

from pathlib import Path

from pipeline.encode import encode
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight
from prefect import flow, task
from rich.console import Console
from rich.progress import Progress

import flows.quiet  # noqa: F401 - before prefect
from catalog import Catalog

encode_catalog = task(name="encode")(encode)
build_plan = task(name="build plan")(Plan.build)


@flow(name="plan", validate_parameters=False)
def plan_flow(catalog: Catalog, mixture: Mixture, progress: Progress) -> Plan:
    """Encode the sources of a recipe and build its plan."""
    encode_catalog.fn(catalog, mixture.encoder, sources=mixture.named(catalog), progress=progress)
    return build_plan.fn(Catalog.open(catalog.path), mixture)


def run_plan(recipe: Path, catalog: Path, console: Console) -> Plan:
    """Build a recipe's plan and print its pre-flight."""
    mixture = Mixture.load(recipe)
    with Progress(console=console, transient=True) as progress:
        plan = plan_flow(Catalog.open(catalog), mixture, progress)
    console.print(preflight(plan))
    return plan
