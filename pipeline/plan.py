"""The training plan: every step of a run as a table of row references, persisted before training."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from pipeline.draws import Draws, draw, seed_of
from pipeline.encode import ENCODERS, encode
from pipeline.mixture import UNITS, Mixture
from pipeline.packing import language_cost, lower_bound, pack
from pipeline.pool import Pool, read_pool
from pipeline.spread import spread

PLAN_VERSION = 2
"""Raise when the same inputs would give another plan."""
GROUP_PACKS = 16_384
"""Packs in a row group of the file, about: what is read to go to any step."""
KEPT_GROUPS = 2
"""Row groups kept in memory."""
_KEY = b"cuvee.plan"
_NUMBERS = ("tokens", "loss_tokens", "tiles", "cost")


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
            numbers={name: table[name].to_numpy() for name in _NUMBERS},
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
        self.header: dict[str, Any] = json.loads(self._parquet.schema_arrow.metadata[_KEY])

    @classmethod
    def open(cls, path: Path | str, plan_id: str = "") -> "Plan":
        """Open a plan's folder, or a catalog's plan by its id or the id's beginning.

        Raises:
            UserError: there is no such plan, or more than one.
        """
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
    def build(cls, catalog: Catalog, mixture: Mixture) -> "Plan":
        """Mix, pack and commit; the same catalog and recipe give the same plan.

        Raises:
            UserError: the recipe cannot be met; says the numbers and what to change.
        """
        used = mixture.named(catalog)
        encoder = encode(catalog, mixture.encoder, used)
        files = [
            file
            for file in catalog.encoding_parts(encoder)
            if file.parent.name.removeprefix("source=") in used
        ]
        recipe = mixture.model_dump(mode="json", exclude={"encoder": {"tokenizer"}})
        parts = [file.relative_to(catalog.path).as_posix() for file in files]
        identity = [PLAN_VERSION, encoder, recipe, parts]
        plan_id = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        if (done := catalog.path / "plans" / f"plan={plan_id}" / "plan.parquet").exists():
            catalog.commit_plan(plan_id, done)
            return cls(done)
        pools = _pools(catalog, mixture, files)
        draws, shares = draw(mixture, pools)
        if not len(draws.entry):
            raise UserError(
                f"{mixture.name}: the budget is spent before the first sample", fix="raise `budget`"
            )
        table, filled = _table(mixture, pools, draws)
        header = {
            "id": plan_id,
            "catalog_version": catalog.version,
            "recipe": recipe,
            "encoder": encoder,
            "tokenizer": str(mixture.encoder.tokenizer.resolve()),
            "parts": parts,
            **_numbers(mixture, pools, draws, shares, table, filled),
        }
        table = table.replace_schema_metadata({_KEY: json.dumps(header)})
        staged = catalog.path / ".staging" / f"{plan_id}.plan.parquet"
        staged.parent.mkdir(exist_ok=True)
        steps = max(1, GROUP_PACKS // mixture.packing.packs_per_step)
        pq.write_table(table, staged, row_group_size=steps * mixture.packing.packs_per_step)
        return cls(catalog.commit_plan(plan_id, staged))

    @property
    def id(self) -> str:
        return str(self.header["id"])

    @property
    def packs_per_step(self) -> int:
        return int(self.header["recipe"]["packing"]["packs_per_step"])

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


def _pools(catalog: Catalog, mixture: Mixture, files: Sequence[Path]) -> list[Pool]:
    """Read what each entry of the recipe can draw."""
    samples = {(file.parent.name, file.stem): file for file in catalog.files("samples")}
    parts = [
        (place, file, samples[file.parent.name, file.stem]) for place, file in enumerate(files)
    ]
    return [
        read_pool(mixture, share, [p for p in parts if p[1].parent.name[len("source=") :] in names])
        for share, names in zip(mixture.sources, mixture.members(catalog), strict=True)
    ]


def _table(mixture: Mixture, pools: Sequence[Pool], draws: Draws) -> tuple[pa.Table, int]:
    """Return one row a pack, complete steps only, and how many packs hold samples."""
    first = np.cumsum([0, *(len(pool) for pool in pools)])[:-1]
    place = first[draws.entry] + draws.sample

    def drawn(name: str) -> NDArray[Any]:
        values: NDArray[Any] = np.concatenate([getattr(pool, name) for pool in pools])[place]
        return values

    tokens, tiles = drawn("tokens"), drawn("tiles").astype(np.int64)
    units = np.concatenate([pool.unit(mixture.unit) for pool in pools])[place]
    order, sizes = _packs(mixture, tokens, tiles, draws.entry, units)
    filled, each = len(sizes), mixture.packing.packs_per_step
    # Empty packs complete the last step, so that no sample is dropped.
    sizes = np.append(sizes, np.zeros(-filled % each, np.int64))
    bounds = np.concatenate([[0], np.cumsum(sizes)])

    def sums(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
        total = np.concatenate([[0], np.cumsum(values[order])])
        return pa.array(np.diff(total[bounds])).cast(kind)

    def members(name: str) -> pa.Array:
        return pa.LargeListArray.from_arrays(bounds, pa.array(drawn(name)[order]))

    table = pa.table(
        {
            "step": np.arange(len(sizes)) // each,
            "parts": members("part"),
            "rows": members("row"),
            "tokens": sums(tokens, pa.int32()),
            "loss_tokens": sums(drawn("loss").astype(np.int64), pa.int32()),
            "tiles": sums(tiles, pa.int32()),
            "cost": sums(np.rint(language_cost(tokens)).astype(np.int64), pa.int64()),
        }
    )
    return table, filled


def _packs(
    mixture: Mixture,
    tokens: NDArray[np.int64],
    tiles: NDArray[np.int64],
    entry: NDArray[np.uint16],
    units: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the draws in the order of the packs, and how many each pack has.

    Packs are shuffled within their window so that every stretch holds about the entries' shares;
    within a pack, draws keep their order.
    """
    packing, entries = mixture.packing, len(mixture.sources)
    orders, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(tokens), packing.window):
        window = slice(start, start + packing.window)
        numbers = pack(tokens[window], tiles[window], packing.tokens, packing.tiles)
        packs = int(numbers.max()) + 1
        # Sums of integers below 2^53: exact, so that the plan is the same on any machine.
        held = np.bincount(
            numbers.astype(np.int64) * entries + entry[window], units[window], packs * entries
        )
        order = spread(
            held.astype(np.int64).reshape(packs, entries), seed_of(mixture.seed, "packs", start)
        )
        place = np.empty(packs, np.int64)
        place[order] = np.arange(packs)
        orders.append(np.argsort(place[numbers], kind="stable") + start)
        sizes.append(np.bincount(place[numbers]))
    return np.concatenate(orders), np.concatenate(sizes)


def _numbers(
    mixture: Mixture,
    pools: Sequence[Pool],
    draws: Draws,
    shares: NDArray[np.float64],
    table: pa.Table,
    filled: int,
) -> dict[str, Any]:
    """Return the pre-flight: what the run will see of each entry, and how full its packs are."""
    times = [
        np.bincount(draws.sample[draws.entry == place], minlength=len(pool))
        for place, pool in enumerate(pools)
    ]
    totals = {
        unit: [int((pool.unit(unit) * t).sum()) for pool, t in zip(pools, times, strict=True)]
        for unit in UNITS
    }
    caps = mixture.caps()
    entries = [
        {
            "name": share.name,
            "requested": float(shares[place]),
            "realised": {
                unit: values[place] / max(sum(values), 1) for unit, values in totals.items()
            },
            "amounts": {unit: values[place] for unit, values in totals.items()},
            "samples": len(pool),
            "draws": totals["samples"][place],
            "epochs": totals["samples"][place] / len(pool),
            "max_epochs": float(caps[place]),
            "never_seen": int((times[place] == 0).sum()),
            **pool.left_out,
            "truncated": pool.truncated,
        }
        for place, (share, pool) in enumerate(zip(mixture.sources, pools, strict=True))
    ]
    packing = mixture.packing
    tokens, tiles = sum(totals["all_tokens"]), pc.sum(table["tiles"]).as_py() or 0
    bound = lower_bound(np.array([tokens]), np.array([tiles]), packing.tokens, packing.tiles)
    summary = {
        "packs": filled,
        "empty_packs": len(table) - filled,
        "lower_bound": bound,
        "steps": len(table) // packing.packs_per_step,
        "tokens": tokens,
        "loss_tokens": sum(totals["loss_tokens"]),
        "tiles": tiles,
        "occupancy": tokens / max(filled * packing.tokens, 1),
        "of_lower_bound": bound / max(filled, 1),
    }
    return {"entries": entries, "packing": summary}
