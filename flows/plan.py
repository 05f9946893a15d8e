"""When a plan is made: encode what is new, then mix, pack and commit."""

from pathlib import Path

from prefect import flow, task
from rich.console import Console

from catalog import Catalog
from pipeline.encode import encode
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight

encode_catalog = task(name="encode")(encode)
build_plan = task(name="build plan")(Plan.build)


@flow(name="plan", validate_parameters=False)
def plan_flow(catalog: Path, mixture: Mixture) -> Plan:
    """Encode the sources of a recipe and build its plan."""
    opened = Catalog.open(catalog)
    encode_catalog.fn(opened, mixture.encoder, sources=mixture.named(opened))
    return build_plan.fn(opened, mixture)


def run_plan(recipe: Path, catalog: Path, console: Console) -> Plan:
    """Build a recipe's plan and print its pre-flight."""
    mixture = Mixture.load(recipe)
    Catalog.open(catalog)
    with console.status("encoding, mixing, packing"):
        plan = plan_flow(catalog, mixture)
    console.print(preflight(plan))
    return plan
