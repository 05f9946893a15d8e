"""Catalog and recipe -> the file of a plan: mix, pack, write, a window at a time.

A row of the file is a pack: step, members as (encodings file, row), and their sums. The header, written
last, is JSON in the file's own metadata.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from pipeline.draws import Draws, draw
from pipeline.encode import encode
from pipeline.merge import merged_parts
from pipeline.mixture import Mixture
from pipeline.pool import Pool, read_pool
from pipeline.summary import Totals, entries_of
from pipeline.windows import Facts, Integers, Packs, steps

PLAN_VERSION = 6
"""Raise when the same inputs would give another plan."""
GROUP_PACKS = 16_384
"""Packs in a row group of the file, about: what is read to go to any step."""
FILLED_ROWS = 8_192
"""Rows of the table of samples that are written at a time."""
HEADER = b"cuvee.plan"

MEMBERS = pa.large_list(pa.uint32())
COLUMN_TYPES = {
    "tokens": pa.int32(),
    "loss_tokens": pa.int32(),
    "tiles": pa.int32(),
    "cost": pa.int64(),
}
SCHEMA = pa.schema(
    [("step", pa.int64()), ("parts", MEMBERS), ("rows", MEMBERS), *COLUMN_TYPES.items()]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a plan is made of: its identity, and the files behind it."""

    catalog: Catalog
    mixture: Mixture
    encoder: str
    files: tuple[Path, ...]
    """Encodings files; a member's part is a place in them."""

    @classmethod
    def of(cls, catalog: Catalog, mixture: Mixture) -> "Inputs":
        """Encode what is new and find the files of the recipe's sources."""
        members = mixture.members(catalog)
        encoder = encode(catalog, mixture.encoder, [name for names in members for name in names])
        base: dict[str, list[Path]] = {}
        for file in catalog.encoding_parts(encoder):
            base.setdefault(file.parent.name.removeprefix("source="), []).append(file)
        files: dict[str, list[Path]] = {}
        for share, names in zip(mixture.sources, members, strict=True):
            for name in names:
                files[name] = base.get(name, [])
                if share.turns_per_image > 1:
                    files[name] = merged_parts(catalog, mixture, share, name, files[name])
        ordered = tuple(file for name in sorted(files) for file in files[name])
        return cls(catalog=catalog, mixture=mixture, encoder=encoder, files=ordered)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as the header keeps it."""
        return self.mixture.recorded()

    @property
    def parts(self) -> list[str]:
        """The encodings files, relative to the catalog."""
        return [file.relative_to(self.catalog.path).as_posix() for file in self.files]

    def plan_id(self, *more: object) -> str:
        """Return the SHA-256 of all that decides what is in the plan."""
        identity = [PLAN_VERSION, self.encoder, self.recipe, self.parts, *more]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def pools(self) -> list[Pool]:
        """Read what each entry of the recipe can draw."""
        samples = {(file.parent.name, file.stem): file for file in self.catalog.files("samples")}
        parts = [
            (place, file, samples.get((file.parent.name, file.stem)))
            for place, file in enumerate(self.files)
        ]
        return [
            read_pool(
                self.mixture,
                share,
                [p for p in parts if p[1].parent.name.removeprefix("source=") in names],
            )
            for share, names in zip(
                self.mixture.sources, self.mixture.members(self.catalog), strict=True
            )
        ]


def build(catalog: Catalog, mixture: Mixture) -> Path:
    """Mix, pack and commit; return the plan's file. A plan that is there is left as it is.

    Raises:
        UserError: the recipe cannot be met; says the numbers and what to change.
    """
    inputs = Inputs.of(catalog, mixture)
    plan_id = inputs.plan_id()
    if (done := catalog.path / "plans" / f"plan={plan_id}" / "plan.parquet").exists():
        return catalog.commit_plan(plan_id, done)
    pools = inputs.pools()
    draws, shares = draw(mixture, pools)
    if not len(draws.entry):
        raise UserError(
            f"{mixture.name}: the budget is spent before the first sample", fix="raise `budget`"
        )
    writer = Writer(inputs, plan_id)
    writer.write(pools, draws, shares)
    entries = entries_of(mixture, pools, draws, shares)
    return writer.commit({"entries": entries, "packing": writer.totals.numbers(mixture)})


class Writer:
    """A plan's file while it is written."""

    def __init__(self, inputs: Inputs, plan_id: str) -> None:
        self.inputs, self.plan_id = inputs, plan_id
        self.totals = Totals()
        self.parts = inputs.parts
        self._each = inputs.mixture.packing.packs_per_step
        self._rows = max(1, GROUP_PACKS // self._each) * self._each
        self._staged = inputs.catalog.path / ".staging" / f"{plan_id}.plan.parquet"
        self._staged.parent.mkdir(exist_ok=True)
        self._file = pq.ParquetWriter(
            self._staged, SCHEMA, use_dictionary=["step"], compression="snappy"
        )
        self._waiting: list[pa.Table] = []

    def write(self, pools: Sequence[Pool], draws: Draws, shares: NDArray[np.float64]) -> None:
        """Pack draws and write whole steps of them."""
        mixture = self.inputs.mixture
        first = np.cumsum([0, *(len(pool) for pool in pools)])
        table = np.empty((first[-1], 8), np.int32)
        for start, pool in zip(first, pools, strict=False):
            _fill(table[start : start + len(pool)], pool, mixture)

        def facts(numbers: Integers) -> Facts:
            entry = draws.entry.take(numbers).astype(np.int64)
            rows = table.take(first.take(entry) + draws.sample.take(numbers), axis=0)
            tokens, loss, tiles, unit = (rows[:, i].astype(np.int64) for i in range(2, 6))
            return Facts(
                tokens=tokens,
                loss=loss,
                tiles=tiles,
                entry=entry,
                unit=unit,
                member=rows[:, 1].astype(np.int64) << 32 | rows[:, 0].view(np.uint32),
            )

        for packs in steps(mixture, shares.tolist(), len(draws.entry), facts):
            self.add(packs)

    def add(self, packs: Packs) -> None:
        """Append packs, whole steps of them."""
        bounds = _arrow(np.concatenate([[0], np.cumsum(packs.sizes)]))
        members = ((packs.members >> 32).astype("u4"), packs.members.astype("u4"))
        parts, rows = (pa.LargeListArray.from_arrays(bounds, _arrow(some)) for some in members)
        numbers = (
            _arrow(packs.numbers[:, i].astype(type_.to_pandas_dtype()))
            for i, type_ in enumerate(COLUMN_TYPES.values())
        )
        step = _arrow((np.arange(len(packs)) + self.totals.packs) // self._each)
        self.totals.add(packs)
        self.append(pa.Table.from_arrays([step, parts, rows, *numbers], schema=SCHEMA))

    def append(self, table: pa.Table) -> None:
        """Append rows of the file as they are."""
        self._waiting.append(table)
        self._flush(whole=True)

    def _flush(self, *, whole: bool) -> None:
        table = pa.concat_tables(self._waiting)
        while len(table) >= self._rows or (not whole and len(table)):
            group = table.slice(0, self._rows)
            self._file.write_table(group, row_group_size=self._rows)
            table = table.slice(len(group))
        self._waiting = [table]

    def commit(self, numbers: dict[str, Any]) -> Path:
        """Write the header, make the plan visible, and return its file."""
        self._flush(whole=False)
        inputs = self.inputs
        header = {
            "id": self.plan_id,
            "catalog_version": inputs.catalog.version,
            "recipe": inputs.recipe,
            "encoder": inputs.encoder,
            "tokenizer": str(inputs.mixture.encoder.tokenizer.resolve()),
            "parts": self.parts,
            **numbers,
        }
        self._file.add_key_value_metadata({HEADER: json.dumps(header)})
        self._file.close()
        return inputs.catalog.commit_plan(self.plan_id, self._staged)


def _arrow(values: NDArray[Any]) -> pa.Array:
    """Return numbers as they lie in memory; `pa.array` would import pandas, which takes half a second."""
    type_ = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(
        type_, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def _fill(columns: NDArray[np.int32], pool: Pool, mixture: Mixture) -> None:
    """Write what is looked up of each draw, side by side in memory: one miss of the cache a draw."""
    values: tuple[NDArray[Any], ...] = (
        pool.row.view(np.int32),
        pool.part.view(np.int32),
        pool.tokens,
        pool.loss,
        pool.tiles,
        pool.unit(mixture.unit),
    )
    # A stretch of rows that stays in the cache until all its columns are written.
    for start in range(0, len(columns), FILLED_ROWS):
        rows = slice(start, start + FILLED_ROWS)
        for place, column in enumerate(values):
            columns[rows, place] = column[rows]
