"""The training plan: every step of a run as a table of row references, persisted before training."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from pipeline.encode import Encoder
from pipeline.mixture import UNITS, Mixture, draws_for, merge, walk
from pipeline.packing import lower_bound, pack

PLAN_VERSION = 1
"""Raise when the same inputs would give another plan."""
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
        encoder = Encoder(mixture.encoder).fingerprint
        files = catalog.encoding_parts(encoder)
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
        pq.write_table(table, staged)
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
        """One row a pack: step, parts, rows, tokens, loss_tokens, tiles."""
        return self._parquet.read()

    def step(self, number: int) -> Step:
        """Return the packs of a step.

        Raises:
            UserError: the plan has no such step.
        """
        if not 0 <= number < self.steps:
            raise UserError(f"no step {number}", fix=f"the plan has steps 0 to {self.steps - 1}")
        rows = self.table.slice(number * self.packs_per_step, self.packs_per_step)
        packs = tuple(
            Pack(
                parts=np.array(row["parts"], np.uint32),
                rows=np.array(row["rows"], np.uint32),
                tokens=row["tokens"],
                loss_tokens=row["loss_tokens"],
                tiles=row["tiles"],
            )
            for row in rows.to_pylist()
        )
        return Step(number=number, packs=packs)

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
    packs: list[NDArray[np.int64]] = []
    for start in range(0, len(entry), packing.window):
        window = slice(start, start + packing.window)
        groups = pack(tokens[window], tiles[window], packing.tokens, packing.tiles)
        shuffle = np.random.default_rng([mixture.seed, start]).permutation(len(groups))
        packs += [np.array(sorted(groups[i]), np.int64) + start for i in shuffle]
    filled = len(packs)
    # Empty packs complete the last step, so that no sample is dropped.
    packs += [np.zeros(0, np.int64)] * (-filled % packing.packs_per_step)
    table = pa.table(
        {
            "step": pa.array(np.arange(len(packs)) // packing.packs_per_step, pa.int64()),
            "parts": pa.array([parts[p] for p in packs], pa.list_(pa.uint32())),
            "rows": pa.array([rows[p] for p in packs], pa.list_(pa.uint32())),
            "tokens": pa.array([int(tokens[p].sum()) for p in packs], pa.int32()),
            "loss_tokens": pa.array([int(loss[p].sum()) for p in packs], pa.int32()),
            "tiles": pa.array([int(tiles[p].sum()) for p in packs], pa.int32()),
        }
    )
    entries = []
    sums = {
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
                    for name, values in sums.items()
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
        "empty_packs": len(packs) - filled,
        "lower_bound": bound,
        "steps": len(packs) // packing.packs_per_step,
        "tokens": int(tokens.sum()),
        "loss_tokens": int(loss.sum()),
        "tiles": int(tiles.sum()),
        "occupancy": float(tokens.sum() / (filled * packing.tokens)),
        "of_lower_bound": bound / filled,
    }
    return table, {"entries": entries, "packing": summary}
