"""The pre-flight of a plan for the eye: what a run will see, before a GPU is touched."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from pipeline.mixture import UNITS
from pipeline.plan import Plan
from pipeline.preview import Preview


def mixture_tables(
    recipe: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> tuple[Table, Table]:
    """Return the shares of a recipe's entries in every unit, and what becomes of their samples."""
    shares = Table(
        title=f"{recipe['name']}: shares of the run, weighed in {recipe['unit']}",
        title_justify="left",
    )
    epochs = Table(title="what becomes of their samples", title_justify="left")
    for table in (shares, epochs):
        table.add_column("entry", no_wrap=True)
    for name in ("requested", *UNITS):
        shares.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for name in (
        "draws",
        "epochs",
        "never\nseen",
        "over-\nlong",
        "trun-\ncated",
        "nothing\nto learn",
    ):
        epochs.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        realised = (f"{entry['realised'][unit]:.1%}" for unit in UNITS)
        shares.add_row(entry["name"], f"{entry['requested']:.1%}", *realised)
        epochs.add_row(
            entry["name"],
            f"{entry['draws']:,}",
            f"{entry['epochs']:.2f} of {entry['max_epochs']:g}",
            f"{entry['never_seen']:,}",
            f"{entry['overlong']:,}",
            f"{entry['truncated']:,}",
            f"{entry['unlearnt']:,}",
        )
    return shares, epochs


def preflight(plan: Plan) -> Group:
    """Return the tables that `cuvee plan` prints."""
    recipe, packing = plan.header["recipe"], plan.header["packing"]
    shares, epochs = mixture_tables(recipe, plan.header["entries"])
    rows = {
        "plan": plan.id,
        "steps": f"{plan.steps:,} of {plan.packs_per_step} packs",
        "packs": f"{packing['packs']:,}, of {recipe['packing']['tokens']:,} tokens, "
        f"and {packing['empty_packs']} empty ones to complete the last step",
        "tokens": f"{packing['tokens']:,}, of which {packing['loss_tokens']:,} are learnt",
        "tiles": f"{packing['tiles']:,}",
        "occupancy": f"{packing['occupancy']:.2%} of the token budget; "
        f"no packing has fewer than {packing['lower_bound']:,} packs ({packing['of_lower_bound']:.2%})",
        "left out": "over-long samples, and samples whose answers are hidden; counted above",
    }
    if "of" in plan.header:
        seen = sum(entry["seen_before"] for entry in plan.header["entries"])
        rows["goes on"] = (
            f"from step {plan.header['from_step']:,} of plan {plan.header['of'][:12]}; "
            f"{seen:,} draws before it count as seen, and the shares are of what follows"
        )
    unit = recipe["unit"]
    gap = max(abs(e["realised"][unit] - e["requested"]) for e in plan.header["entries"])
    rows["exactness"] = f"no share is further than {gap * 100:.3f} points from what was requested"
    if saved := sum(entry["saved"] for entry in plan.header["entries"]):
        talks = sum(e["conversations"] for e in plan.header["entries"] if e["saved"])
        merged = sum(e["draws"] for e in plan.header["entries"] if e["saved"])
        visual = sum(e["amounts"]["visual_tokens"] for e in plan.header["entries"])
        rows["merged"] = (
            f"{merged:,} samples in {talks:,} conversations: {saved:,} visual tokens saved, "
            f"{saved / (saved + visual):.0%} of what they would be"
        )
    return Group(shares, epochs, _numbers(rows))


def preview_tables(found: Preview) -> Group:
    """Return the tables that `cuvee stats --recipe` prints."""
    packing = found.recipe["packing"]
    rows = {
        "tokens": f"{found.tokens:,}, of which {found.loss_tokens:,} are learnt",
        "tiles": f"{found.tiles:,}",
        "packs": f"at least {found.packs:,} of {packing['tokens']:,} tokens",
        "steps": f"at least {found.steps:,} of {packing['packs_per_step']} packs",
    }
    return Group(*mixture_tables(found.recipe, found.entries), _numbers(rows))


def _numbers(rows: Mapping[str, str]) -> Table:
    numbers = Table(show_header=False, box=None)
    for key, value in rows.items():
        numbers.add_row(key, value)
    return numbers
