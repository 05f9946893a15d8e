"""The ledger of a plan: step -> samples, files and licences, and back from a sample to its steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from rich.console import Console
from rich.table import Table

from catalog import Catalog
from catalog.errors import UserError
from pipeline.plan import Plan


def open_plan(plan: str, catalog: Path | None) -> tuple[Plan, Path]:
    """Return a plan by folder or by id, and the folder of its catalog."""
    if (Path(plan) / "plan.parquet").exists():
        opened = Plan.open(Path(plan))
        return opened, catalog or opened.file.parents[2]
    if catalog is None:
        raise UserError(f"{plan} is no plan's folder", fix="add --catalog DIR to find it by its id")
    return Plan.open(catalog, plan), catalog


def samples_of(plan: Plan, catalog: Path, step: int) -> Iterator[dict[str, Any]]:
    """Yield the samples of a step, in the order of the packs.

    The rows come from the samples files of the plan's own catalog version.
    """
    stems: dict[tuple[str, str], Path] = {
        (file.parent.name, file.stem): file
        for file in Catalog.open(catalog, plan.header["catalog_version"]).files("samples")
    }
    read: dict[Path, pl.DataFrame] = {}
    columns = ["sample_id", "split", "native_id", "file", "license"]
    for number, pack in enumerate(plan.step(step).packs):
        for part, row in zip(pack.parts.tolist(), pack.rows.tolist(), strict=True):
            place = Path(plan.header["parts"][part])
            file = stems[place.parent.name, place.stem]
            if file not in read:
                read[file] = pl.read_parquet(file, columns=columns)
            source = place.parent.name.removeprefix("source=")
            yield {"pack": number, "source": source} | read[file].row(row, named=True)


def steps_of(plan: Plan, catalog: Path, sample_id: str) -> list[int]:
    """Return the steps that see a sample.

    Raises:
        UserError: no encodings file of the plan holds the sample.
    """
    for number, part in enumerate(plan.header["parts"]):
        ids = pl.read_parquet(catalog / part, columns=["sample_id"])["sample_id"]
        rows = (ids == sample_id).arg_true()
        if not len(rows):
            continue
        table = pl.DataFrame(
            {name: plan.table[name].to_numpy() for name in ("step",)}
            | {name: pl.from_arrow(plan.table[name]) for name in ("parts", "rows")}
        )
        hits = table.explode("parts", "rows").filter(
            (pl.col("parts") == number) & (pl.col("rows") == rows[0])
        )
        return [int(step) for step in np.unique(hits["step"].to_numpy())]
    raise UserError(
        f"no sample {sample_id} in this plan", fix="take a sample_id from Catalog.samples()"
    )


def show_trace(
    console: Console,
    plan: str,
    *,
    catalog: Path | None,
    step: int | None,
    sample: str | None,
    as_json: bool = False,
) -> None:
    """Print the samples of a step, or the steps of a sample."""
    if (step is None) == (sample is None):
        raise UserError("ask for one thing", fix="either --step K or --sample ID")
    opened, folder = open_plan(plan, catalog)
    if sample is not None:
        steps = steps_of(opened, folder, sample)
        if as_json:
            console.out(orjson.dumps({"sample": sample, "steps": steps}).decode())
        else:
            seen = ", ".join(map(str, steps)) or "no step"
            console.print(f"{sample} is seen by {seen}", soft_wrap=True, highlight=False)
        return
    assert step is not None
    rows = samples_of(opened, folder, step)
    if as_json:
        for row in rows:
            console.out(orjson.dumps(row).decode())
        return
    table = Table(title=f"step {step} of {opened.steps}", title_justify="left")
    for column in ("pack", "source", "split", "id", "file", "licence"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            str(row["pack"]),
            row["source"],
            row["split"],
            row["native_id"],
            row["file"],
            row["license"],
        )
    console.print(table)
