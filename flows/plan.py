"""When a plan is made: encode what is new, then mix, pack and commit."""

from pathlib import Path

from prefect import flow, task
from rich.console import Console

from catalog import Catalog
from pipeline.encode import encode
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight
from pipeline.replan import replan
from pipeline.shipped import find_recipe

encode_catalog = task(name="encode")(encode)
build_plan = task(name="build plan")(Plan.build)
plan_remainder = task(name="plan the remainder")(replan)


@flow(name="plan", validate_parameters=False)
def plan_flow(
    catalog: Path, mixture: Mixture, of: Plan | None = None, from_step: int | None = None
) -> Plan:
    """Encode the sources of a recipe and build its plan, or what a plan has left from a step on."""
    opened = Catalog.open(catalog)
    encode_catalog.fn(opened, mixture.encoder, sources=mixture.named(opened))
    if of is not None and from_step is not None:
        return plan_remainder.fn(opened, mixture, of, from_step)
    return build_plan.fn(opened, mixture)


def run_plan(
    recipe: str,
    catalog: Path,
    console: Console,
    *,
    tokenizer: Path | None = None,
    of: str | None = None,
    from_step: int | None = None,
) -> Plan:
    """Build a recipe's plan and print its pre-flight."""
    mixture = Mixture.load(find_recipe(recipe, tokenizer=tokenizer), tokenizer=tokenizer)
    Catalog.open(catalog)
    before = None if of is None else Plan.open(catalog, of)
    with console.status("encoding, mixing, packing"):
        plan = plan_flow(catalog, mixture, before, from_step)
    console.print(preflight(plan))
    return plan
