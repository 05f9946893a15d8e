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
from pipeline.plan import Plan, sample_ids


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
    opened = Catalog.open(catalog, plan.header["catalog_version"])
    stems = {(file.parent.name, file.stem): file for file in opened.files("samples")}
    read: dict[Path, pl.DataFrame] = {}
    columns = ["sample_id", "split", "native_id", "file", "license"]
    for number, pack in enumerate(plan.step(step).packs):
        for part, row in zip(pack.parts.tolist(), pack.rows.tolist(), strict=True):
            place = Path(plan.header["parts"][part])
            source = place.parent.name.removeprefix("source=")
            file = stems.get((place.parent.name, place.stem))
            head = {"pack": number, "source": source}
            if file is None:
                # Turns were merged, or the steps are of an older version of the catalog.
                if place not in read:
                    read[place] = sample_ids(catalog / place).to_frame("ids")
                wanted = read[place]["ids"][row].to_list()
                yield from (head | found for found in _by_id(opened, source, wanted, columns))
                continue
            if file not in read:
                read[file] = pl.read_parquet(file, columns=columns)
            yield head | read[file].row(row, named=True)


def _by_id(
    catalog: Catalog, source: str, wanted: list[str], columns: list[str]
) -> list[dict[str, Any]]:
    """Return the samples rows with these ids, in this order; nulls for one that is no longer there."""
    rows = (
        pl.scan_parquet(catalog.files("samples", source=source))
        .select(columns)
        .filter(pl.col("sample_id").is_in(wanted))
        .collect()
    )
    found = {row["sample_id"]: row for row in rows.to_dicts()}
    gone = dict.fromkeys(columns, "")
    return [found.get(key, gone | {"sample_id": key}) for key in wanted]


def steps_of(plan: Plan, catalog: Path, sample_id: str) -> list[int]:
    """Return the steps that see a sample.

    Raises:
        UserError: no encodings file of the plan holds the sample.
    """
    for number, part in enumerate(plan.header["parts"]):
        rows = sample_ids(catalog / part).list.contains(sample_id).arg_true()
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
