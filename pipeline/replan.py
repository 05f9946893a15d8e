"""The remainder of a run, planned again after weights or data have changed.

The steps before stay as they were. What they have drawn counts: towards `max_epochs`, towards the
budget, and in every shuffle, which goes on where it was. So nothing of the rest is lost or doubled.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from pipeline.draws import Past, draw
from pipeline.mixture import Mixture
from pipeline.plan import Plan, sample_ids
from pipeline.planner import SCHEMA, Inputs, Writer
from pipeline.pool import Pool
from pipeline.summary import entries_of
from pipeline.windows import COLUMNS

KEPT = ("image", "packing.tokens", "packing.packs_per_step")
"""Fields of a recipe that the remainder shares with the steps before."""


def replan(catalog: Catalog, mixture: Mixture, of: Plan, from_step: int) -> Plan:
    """Return the plan that has the steps of `of` before `from_step`, and then what the recipe says.

    Raises:
        UserError: `of` has no such step, the recipe changes what the steps share, or cannot be met.
    """
    if not 0 < from_step <= of.steps:
        raise UserError(
            f"no step {from_step} to go on from", fix=f"the plan has steps 1 to {of.steps}"
        )
    inputs = Inputs.of(catalog, mixture)
    for field in KEPT:
        old, new = (_field(recipe, field) for recipe in (of.header["recipe"], inputs.recipe))
        if old != new:
            raise UserError(
                f"{field} is {new}, and {old} in the steps before",
                fix="keep it, or make a new plan without --from-step",
            )
    plan_id = inputs.plan_id(of.id, from_step)
    folder = catalog.path / "plans" / f"plan={plan_id}"
    if (done := folder / "plan.parquet").exists():
        return Plan(catalog.commit_plan(plan_id, done))
    before = of.table.slice(0, from_step * of.packs_per_step)
    pools = inputs.pools()
    parts, rows = (before[name].combine_chunks().flatten().to_numpy() for name in ("parts", "rows"))
    times = _Times(catalog.path, of.header["parts"], parts, rows)
    past = Past(
        seen=tuple(times.of(pool, inputs.files) for pool in pools),
        samples=times.samples,
        tokens=int(before["tokens"].to_numpy().sum()),
    )
    draws, shares = draw(mixture, pools, past)
    if not len(draws.entry):
        raise UserError(
            f"{mixture.name}: nothing is left to draw after step {from_step}",
            fix="raise `budget` or `max_epochs`, or go on from an earlier step",
        )
    writer = Writer(inputs, plan_id)
    _copy(writer, of, before)
    writer.write(pools, draws, shares)
    return Plan(
        writer.commit(
            {
                "of": of.id,
                "from_step": from_step,
                "entries": entries_of(mixture, pools, draws, shares, past),
                "packing": writer.totals.numbers(mixture),
            }
        )
    )


def _field(recipe: object, field: str) -> object:
    """Return a field of a recipe, such as `packing.tokens`."""
    for name in field.split("."):
        assert isinstance(recipe, dict)
        recipe = recipe[name]
    return recipe


def _copy(writer: Writer, of: Plan, before: pa.Table) -> None:
    """Write the steps before; their parts join the new plan's list."""
    places = {part: place for place, part in enumerate(writer.parts)}
    for part in of.header["parts"]:
        places.setdefault(part, len(places))
    writer.parts = list(places)
    moved = np.array([places[part] for part in of.header["parts"]], np.uint32)
    old = before["parts"].combine_chunks()
    bounds = old.offsets.to_numpy().astype(np.int64)
    parts = moved[old.flatten().to_numpy()]
    columns = {name: before[name].combine_chunks() for name in before.column_names}
    columns["parts"] = pa.LargeListArray.from_arrays(bounds - bounds[0], pa.array(parts))
    writer.append(pa.Table.from_arrays([columns[f.name] for f in SCHEMA], schema=SCHEMA))
    numbers = np.stack([before[name].to_numpy().astype(np.int64) for name in COLUMNS], axis=1)
    writer.totals.add_rows(np.diff(bounds), numbers)


class _Times:
    """How often the steps before have drawn each sample."""

    def __init__(
        self,
        catalog: Path,
        old: Sequence[str],
        parts: NDArray[np.uint32],
        rows: NDArray[np.uint32],
    ) -> None:
        self._catalog = catalog
        self._old = {(Path(part).parent.name, Path(part).stem): i for i, part in enumerate(old)}
        self._paths = old
        keys = parts.astype(np.int64) << 32 | rows
        self._keys, self._counts = np.unique(keys, return_counts=True)
        self.samples = sum(
            int(sample_ids(catalog / old[part]).list.len().to_numpy()[rows[parts == part]].sum())
            for part in np.unique(parts).tolist()
        )

    def of(self, pool: Pool, files: Sequence[Path]) -> NDArray[np.int64]:
        """Return how often each sample of a pool was drawn.

        Files that were there keep their rows; of others, samples are known by their ids.
        """
        seen = np.zeros(len(pool), np.int64)
        used = np.unique(pool.part)
        known = np.full(len(files), -1, np.int64)
        for part in used.tolist():
            known[part] = self._old.get((files[part].parent.name, files[part].stem), -1)
        here = known[pool.part]
        keys = here << 32 | pool.row
        place = np.searchsorted(self._keys, keys).clip(0, max(len(self._keys) - 1, 0))
        found = (here >= 0) & (self._keys[place] == keys)
        seen[found] = self._counts[place[found]]
        fresh = [part for part in used.tolist() if known[part] < 0]
        if fresh:
            self._by_id(pool, files, fresh, seen)
        return seen

    def _by_id(
        self, pool: Pool, files: Sequence[Path], fresh: list[int], seen: NDArray[np.int64]
    ) -> None:
        """Fill in the samples of files that the plan before did not have."""
        sources = {files[part].parent.name for part in fresh}
        live = {(file.parent.name, file.stem) for file in files}
        counts = {
            key: times
            for place, part in enumerate(self._paths)
            if Path(part).parent.name in sources
            and (Path(part).parent.name, Path(part).stem) not in live
            for key, times in self._ids(place, self._catalog / part)
        }
        if not counts:
            return
        for part in fresh:
            mine = np.flatnonzero(pool.part == part)
            ids = sample_ids(files[part]).to_list()
            times = [max(counts.get(key, 0) for key in ids[row]) for row in pool.row[mine]]
            seen[mine] = times

    def _ids(self, place: int, file: Path) -> list[tuple[str, int]]:
        first, last = np.searchsorted(self._keys, [place << 32, (place + 1) << 32])
        if first == last:
            return []
        ids = sample_ids(file).to_list()
        rows = (self._keys[first:last] & 0xFFFFFFFF).tolist()
        return [
            (key, times)
            for row, times in zip(rows, self._counts[first:last].tolist(), strict=True)
            for key in ids[row]
        ]
