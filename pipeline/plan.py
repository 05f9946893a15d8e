"""The training plan: every step of a run as a table of row references, persisted before training."""

import hashlib
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
from pipeline.encode import ENCODERS, encode
from pipeline.mixture import UNITS, Mixture, draws_for, merge, walk
from pipeline.packing import lower_bound, pack

PLAN_VERSION = 2
"""Raise when the same inputs would give another plan."""
GROUP_PACKS = 16_384
"""Packs in a row group of the file, about: what is read to go to any step."""
KEPT_GROUPS = 2
"""Row groups kept in memory."""
_KEY = b"cuvee.plan"


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
            numbers={name: table[name].to_numpy() for name in ("tokens", "loss_tokens", "tiles")},
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The samples one entry of a recipe can draw, as columns."""

    part: NDArray[np.uint32]
    row: NDArray[np.uint32]
    units: dict[str, NDArray[np.float64]]
    tokens: NDArray[np.int64]
    loss: NDArray[np.int64]
    tiles: NDArray[np.int64]
    unlearnt: int
    """Samples left out because nothing in them is learnt: hidden answers."""
    overlong: int
    """Samples left out because they are longer than a pack, in tokens or in tiles."""

    def __len__(self) -> int:
        return len(self.row)


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
        pools = _pools(catalog, mixture, files, encoder)
        counts = _apportion(mixture, pools)
        table, numbers = _pack(mixture, pools, counts)
        header = {
            "id": plan_id,
            "catalog_version": catalog.version,
            "recipe": recipe,
            "encoder": encoder,
            "tokenizer": str(mixture.encoder.tokenizer.resolve()),
            "parts": parts,
            **numbers,
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


def _pools(catalog: Catalog, mixture: Mixture, files: list[Path], encoder: str) -> list[Pool]:
    places = {file: place for place, file in enumerate(files)}
    pools = []
    for share, names in zip(mixture.sources, mixture.members(catalog), strict=True):
        wanted = None
        if share.where is not None:
            try:
                wanted = (
                    catalog.samples()
                    .filter(pl.col("source").is_in(names))
                    .filter(pl.sql_expr(share.where))
                    .select("sample_id")
                    .collect()["sample_id"]
                )
            except pl.exceptions.PolarsError as error:
                raise UserError(
                    f"{mixture.name}: {share.name}: `where: {share.where}`: {error}",
                    fix="write SQL over the columns of `samples`, such as split = 'train'",
                ) from error
        columns = ("sample_id", "n_tokens", "n_loss", "n_images", "widths", "heights")
        frames = [
            pl.read_parquet(file, columns=list(columns)).select(
                pl.lit(place, pl.UInt32).alias("part"),
                pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
                *columns,
            )
            for file, place in places.items()
            if file.parent.name.removeprefix("source=") in names
        ]
        if not frames:
            raise UserError(
                f"{mixture.name}: {share.name} is not encoded", fix="run `cuvee plan` again"
            )
        frame = pl.concat(frames)
        if wanted is not None:
            frame = frame.filter(pl.col("sample_id").is_in(wanted.implode()))
        if not len(frame):
            raise UserError(
                f"{mixture.name}: {share.name} has no sample where {share.where}",
                fix="change `where`, or take the entry out",
            )
        pools.append(_pool(frame, mixture))
    return pools


def _pool(frame: pl.DataFrame, mixture: Mixture) -> Pool:
    packing, policy = mixture.packing, mixture.image
    pictures = frame.select("row", "widths", "heights").with_row_index("place")
    pictures = pictures.explode("widths", "heights").drop_nulls("widths")
    tiles = np.zeros(len(frame), np.int64)
    np.add.at(
        tiles,
        pictures["place"].to_numpy(),
        policy.tiles(pictures["widths"].to_numpy(), pictures["heights"].to_numpy()),
    )
    text = frame["n_tokens"].to_numpy().astype(np.int64)
    loss = frame["n_loss"].to_numpy().astype(np.int64)
    visual = tiles * policy.tokens
    learnt = loss > 0
    tokens = text + visual
    keep = learnt & (tokens <= packing.tokens) & (tiles <= packing.tiles)
    units = {
        "samples": np.ones(len(frame)),
        "images": frame["n_images"].to_numpy(),
        "text_tokens": text,
        "visual_tokens": visual,
        "all_tokens": tokens,
        "loss_tokens": loss,
    }
    return Pool(
        part=frame["part"].to_numpy()[keep],
        row=frame["row"].to_numpy()[keep],
        units={name: values[keep].astype(np.float64) for name, values in units.items()},
        tokens=tokens[keep],
        loss=loss[keep],
        tiles=tiles[keep],
        unlearnt=int((~learnt).sum()),
        overlong=int((learnt & ~keep).sum()),
    )


def _apportion(mixture: Mixture, pools: list[Pool]) -> list[int]:
    """Return how many draws each entry gives."""
    shares, unit = mixture.shares(), mixture.unit
    totals = np.array([pool.units[unit].sum() for pool in pools])
    for share, pool, total in zip(mixture.sources, pools, totals, strict=True):
        if not len(pool):
            raise UserError(
                f"{mixture.name}: {share.name} has no usable sample: {pool.unlearnt} have nothing to "
                f"learn, {pool.overlong} are longer than {mixture.packing.tokens} tokens or "
                f"{mixture.packing.tiles} tiles",
                fix="raise `packing`, or take the entry out",
            )
        if not total:
            raise UserError(
                f"{mixture.name}: {share.name} holds no {unit}",
                fix="weigh in another unit, or take the entry out",
            )
    limits = np.array([share.max_epochs for share in mixture.sources]) * totals
    budget = mixture.budget
    if budget.epochs is not None:
        scale = float((np.minimum(budget.epochs * totals, limits) / shares).min())
    else:
        measure = "samples" if budget.samples is not None else "all_tokens"
        amount = budget.samples if budget.samples is not None else budget.tokens
        assert amount is not None
        means = np.array([pool.units[measure].sum() for pool in pools]) / totals
        scale = amount / float((shares * means).sum())
    short = shares * scale > limits * (1 + 1e-9)
    if short.any():
        most = float((limits / shares).min())
        lines = [
            f"{share.name}: {p * scale / total:.2f} epochs wanted, max_epochs is {share.max_epochs:g}"
            for share, p, total, bad in zip(mixture.sources, shares, totals, short, strict=True)
            if bad
        ]
        raise UserError(
            f"{mixture.name}: the budget needs more than the sources hold\n" + "\n".join(lines),
            fix=f"take {most / scale:.1%} of the budget, raise `max_epochs`, or lower these weights",
        )
    counts = []
    for share, pool, p in zip(mixture.sources, pools, shares, strict=True):
        limit = int(share.max_epochs * len(pool) + 1e-9)
        order = walk(mixture.seed, share.name, len(pool), max(limit, 1))
        counts.append(draws_for(pool.units[unit][order], p * scale * (1 + 1e-12), limit))
    return counts


def _pack(
    mixture: Mixture, pools: list[Pool], counts: list[int]
) -> tuple[pa.Table, dict[str, Any]]:
    packing = mixture.packing
    orders = [
        walk(mixture.seed, share.name, len(pool), count)
        for share, pool, count in zip(mixture.sources, pools, counts, strict=True)
    ]
    entry, number = merge(
        [pool.units[mixture.unit][order] for pool, order in zip(pools, orders, strict=True)]
    )
    drawn = np.empty(len(entry), np.int64)
    for place, order in enumerate(orders):
        mine = entry == place
        drawn[mine] = order[number[mine]]

    def column(name: str, kind: type[np.generic]) -> NDArray[Any]:
        values = np.empty(len(entry), kind)
        for place, pool in enumerate(pools):
            mine = entry == place
            values[mine] = getattr(pool, name)[drawn[mine]]
        return values

    parts, rows = column("part", np.uint32), column("row", np.uint32)
    tokens, loss = column("tokens", np.int64), column("loss", np.int64)
    tiles = column("tiles", np.int64)
    order, sizes = _packs(mixture, tokens, tiles)
    filled = len(sizes)
    # Empty packs complete the last step, so that no sample is dropped.
    sizes = np.append(sizes, np.zeros(-filled % packing.packs_per_step, np.int64))
    bounds = np.concatenate([[0], np.cumsum(sizes)])

    def members(values: NDArray[np.uint32]) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(values[order]))

    def sums(values: NDArray[np.int64]) -> pa.Array:
        total = np.concatenate([[0], np.cumsum(values[order])])
        return pa.array(np.diff(total[bounds]), pa.int32())

    table = pa.table(
        {
            "step": pa.array(np.arange(len(sizes)) // packing.packs_per_step, pa.int64()),
            "parts": members(parts),
            "rows": members(rows),
            "tokens": sums(tokens),
            "loss_tokens": sums(loss),
            "tiles": sums(tiles),
        }
    )
    entries = []
    totals = {
        name: [float(pool.units[name][o].sum()) for pool, o in zip(pools, orders, strict=True)]
        for name in UNITS
    }
    for place, (share, pool, asked) in enumerate(
        zip(mixture.sources, pools, mixture.shares(), strict=True)
    ):
        entries.append(
            {
                "name": share.name,
                "requested": float(asked),
                "realised": {
                    name: values[place] / sum(values) if sum(values) else 0.0
                    for name, values in totals.items()
                },
                "samples": len(pool),
                "draws": counts[place],
                "epochs": counts[place] / len(pool),
                "never_seen": len(pool) - len(np.unique(orders[place])),
                "unlearnt": pool.unlearnt,
                "overlong": pool.overlong,
            }
        )
    bound = lower_bound(tokens, tiles, packing.tokens, packing.tiles)
    summary = {
        "packs": filled,
        "empty_packs": len(sizes) - filled,
        "lower_bound": bound,
        "steps": len(sizes) // packing.packs_per_step,
        "tokens": int(tokens.sum()),
        "loss_tokens": int(loss.sum()),
        "tiles": int(tiles.sum()),
        "occupancy": float(tokens.sum() / (filled * packing.tokens)),
        "of_lower_bound": bound / filled,
    }
    return table, {"entries": entries, "packing": summary}


def _packs(
    mixture: Mixture, tokens: NDArray[np.int64], tiles: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the draws in the order of the packs, and how many each pack has.

    Packs are shuffled within their window; within a pack, draws keep their order.
    """
    packing = mixture.packing
    orders, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(tokens), packing.window):
        window = slice(start, start + packing.window)
        numbers = pack(tokens[window], tiles[window], packing.tokens, packing.tiles)
        shuffle = np.random.default_rng([mixture.seed, start]).permutation(numbers.max() + 1)
        place = shuffle[numbers]
        orders.append(np.argsort(place, kind="stable") + start)
        sizes.append(np.bincount(place))
    return np.concatenate(orders), np.concatenate(sizes)
