"""The training plan: every step of a run as a table of row references, persisted before training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from catalog.remote import is_remote
from pipeline.encode import ENCODERS
from pipeline.mixture import Mixture
from pipeline.planner import HEADER, build
from pipeline.spots import PIX2EMB
from pipeline.windows import COLUMNS

KEPT_GROUPS = 2
"""Row groups kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """One packed row."""

    parts: NDArray[np.uint32]
    """For each member, the place of its encodings file in the header's `parts`."""
    rows: NDArray[np.uint32]
    """For each member, its row in that file."""
    tokens: int
    loss_tokens: int
    tiles: int
    cost: int
    """Work of the language model, in tokens of a layer without attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The packs of one optimizer step, over all ranks."""

    number: int
    packs: tuple[Pack, ...]

    @property
    def loss_tokens(self) -> int:
        return sum(pack.loss_tokens for pack in self.packs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A row group of a plan, as columns; members lie one pack after the other."""

    bounds: NDArray[np.int64]
    parts: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    numbers: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, table: pa.Table) -> "_Rows":
        parts, rows = (table[name].combine_chunks() for name in ("parts", "rows"))
        return cls(
            bounds=parts.offsets.to_numpy().astype(np.int64) - parts.offsets[0].as_py(),
            parts=parts.flatten().to_numpy(),
            rows=rows.flatten().to_numpy(),
            numbers={name: table[name].to_numpy() for name in COLUMNS},
        )

    def packs(self, first: int, count: int) -> tuple[Pack, ...]:
        """Return packs of this row group."""
        return tuple(
            Pack(
                parts=self.parts[self.bounds[row] : self.bounds[row + 1]],
                rows=self.rows[self.bounds[row] : self.bounds[row + 1]],
                **{name: int(values[row]) for name, values in self.numbers.items()},
            )
            for row in range(first, first + count)
        )


class Plan:
    """A committed plan: a header, and a table with one row a pack."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._parquet = pq.ParquetFile(file, memory_map=True)
        self._lock = Lock()
        self._groups: dict[int, _Rows] = {}
        self.header: dict[str, Any] = json.loads(self._parquet.metadata.metadata[HEADER])

    @classmethod
    def open(cls, path: Path | str, plan_id: str = "") -> "Plan":
        """Open a plan's folder, or a catalog's plan by its id or the id's beginning.

        Of a catalog on an object store (a URL), the plan and its tokenizer are copied into the shadow.

        Raises:
            UserError: there is no such plan, or more than one.
        """
        if is_remote(path):
            return cls._from_store(Catalog.open(path), plan_id)
        path = Path(path)
        if (path / "plan.parquet").exists():
            return cls(path / "plan.parquet")
        found = sorted((path / "plans").glob(f"plan={plan_id}*/plan.parquet"))
        live = set(Catalog.open(path).files("plans")) if found else set()
        found = [file for file in found if file in live]
        if len(found) != 1:
            raise UserError(
                f"{path}: {len(found)} plans named {plan_id or '(any)'}",
                fix="`cuvee plan RECIPE --catalog DIR` prints the id",
            )
        return cls(found[0])

    @classmethod
    def _from_store(cls, catalog: Catalog, plan_id: str) -> "Plan":
        plan = cls(catalog.plan_file(plan_id))
        assert catalog.remote
        for name in catalog.remote.listed(f"{ENCODERS}/{plan.header['encoder']}/"):
            catalog.remote.fetch(catalog.path / name)
        return plan

    @classmethod
    def build(cls, catalog: Catalog, mixture: Mixture) -> "Plan":
        """Mix, pack and commit; the same catalog and recipe give the same plan.

        Raises:
            UserError: the recipe cannot be met; says the numbers and what to change.
        """
        return cls(build(catalog, mixture))

    @property
    def id(self) -> str:
        return str(self.header["id"])

    @property
    def packs_per_step(self) -> int:
        return int(self.header["recipe"]["packing"]["packs_per_step"])

    @property
    def located(self) -> bool:
        """Whether boxes are location tokens (`pipeline.spots`)."""
        return str(self.header["recipe"]["encoder"]["boxes"]) == PIX2EMB

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self._parquet.metadata.num_rows) // self.packs_per_step

    @cached_property
    def table(self) -> pa.Table:
        """One row a pack: step, parts, rows, tokens, loss_tokens, tiles, cost."""
        return pq.read_table(self.file, memory_map=True)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder, as the plan's catalog keeps it."""
        return self.file.parents[2] / ENCODERS / str(self.header["encoder"])

    def step(self, number: int) -> Step:
        """Return the packs of a step; only its row group of the file is read.

        Raises:
            UserError: the plan has no such step.
        """
        if not 0 <= number < self.steps:
            raise UserError(f"no step {number}", fix=f"the plan has steps 0 to {self.steps - 1}")
        first = number * self.packs_per_step
        group = int(np.searchsorted(self._starts, first, side="right")) - 1
        rows = self._group(group)
        packs = rows.packs(first - int(self._starts[group]), self.packs_per_step)
        return Step(number=number, packs=packs)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """First row of each row group."""
        meta = self._parquet.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        return np.cumsum([0, *sizes[:-1]])

    def _group(self, group: int) -> "_Rows":
        # Loader threads share a plan, and a Parquet reader is not made for that.
        with self._lock:
            if group not in self._groups:
                while len(self._groups) >= KEPT_GROUPS:
                    del self._groups[min(self._groups)]
                self._groups[group] = _Rows.of(self._parquet.read_row_group(group))
            return self._groups[group]

    def statistics(self) -> Mapping[str, Any]:
        """Return the pre-flight numbers: shares, epochs, occupancy."""
        return {key: self.header[key] for key in ("entries", "packing")}


def sample_ids(file: Path) -> pl.Series:
    """Return the samples of each row of an encodings file, as lists: several where turns were merged.

    Raises:
        UserError: the file is gone.
    """
    if not file.exists():
        raise UserError(
            f"{file} is gone, and with it what its rows were", fix="make a plan from the beginning"
        )
    rows = pl.scan_parquet(file)
    alone = pl.concat_list("sample_id")
    if "members" in rows.collect_schema():
        alone = pl.when(pl.col("members").is_null()).then(alone).otherwise("members")
    return rows.select(alone.alias("ids")).collect()["ids"]
