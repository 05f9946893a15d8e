"""What differs between two plans: recipe, shares, samples in and out, steps touched."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.draws import seed_of, splitmix
from pipeline.plan import Plan, sample_ids

Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """From plan `a` to plan `b`."""

    a: str
    b: str
    fields: dict[str, tuple[Any, Any]]
    """Field of the recipe, `encoder` or `catalog_version` -> old and new value."""
    shares: dict[str, tuple[float | None, float | None]]
    """Entry -> realised share in plan a's unit, None where the plan has no such entry."""
    draws: tuple[int, int]
    samples_in: dict[str, int]
    """Source -> samples that only `b` draws."""
    samples_out: dict[str, int]
    steps: tuple[int, int]
    first_step: int | None
    """The first step that differs; None where one plan is the beginning of the other."""
    touched: int
    """Steps that both have and that differ."""


def diff(a: Plan, b: Plan) -> PlanDiff:
    """Compare two plans of one catalog, or of two catalogs of the same files."""
    unit = a.header["recipe"]["unit"]
    shares = [
        {entry["name"]: entry["realised"][unit] for entry in plan.header["entries"]}
        for plan in (a, b)
    ]
    names = list(dict.fromkeys([*shares[0], *shares[1]]))
    changed = {source for source, _ in _parts(a) ^ _parts(b)}
    keys, sources = zip(*(_members(plan, changed) for plan in (a, b)), strict=True)
    both = min(a.steps, b.steps)
    differ = np.ones(both, np.bool_)
    if a.packs_per_step == b.packs_per_step:
        hashes = (_step_hashes(plan, own)[:both] for plan, own in zip((a, b), keys, strict=True))
        differ = np.not_equal(*hashes)
    return PlanDiff(
        a=a.id,
        b=b.id,
        fields=_fields(a.header, b.header),
        shares={name: (shares[0].get(name), shares[1].get(name)) for name in names},
        draws=(len(keys[0]), len(keys[1])),
        samples_in=_only(keys[1], keys[0], sources[1]),
        samples_out=_only(keys[0], keys[1], sources[0]),
        steps=(a.steps, b.steps),
        first_step=int(differ.argmax()) if differ.any() else None,
        touched=int(differ.sum()),
    )


def _parts(plan: Plan) -> set[tuple[str, str]]:
    return {(Path(part).parent.name, Path(part).stem) for part in plan.header["parts"]}


def _members(plan: Plan, changed: set[str]) -> tuple[Keys, list[str]]:
    """Return a hash of each draw, and each draw's source; the same samples have the same hash.

    Rows are known by their file and place, and by their samples' ids in sources whose files changed.
    """
    parts = plan.table["parts"].combine_chunks().flatten().to_numpy()
    rows = plan.table["rows"].combine_chunks().flatten().to_numpy()
    keys = np.zeros(len(rows), np.uint64)
    names = []
    for place, part in enumerate(plan.header["parts"]):
        path = Path(part)
        names.append(path.parent.name.removeprefix("source="))
        mine = np.flatnonzero(parts == place)
        if not len(mine):
            continue
        if path.parent.name not in changed:
            keys[mine] = splitmix(
                rows[mine].astype(np.uint64), seed_of(path.parent.name, path.stem)
            )
            continue
        ids = sample_ids(plan.file.parents[2] / part).to_list()
        hashes = np.array([seed_of(*row) for row in ids], np.uint64)
        keys[mine] = hashes[rows[mine]]
    return keys, [names[part] for part in parts.tolist()]


def _only(mine: Keys, other: Keys, sources: list[str]) -> dict[str, int]:
    """Return source -> samples among `mine` that are not among `other`."""
    distinct, first = np.unique(mine, return_index=True)
    alone = first[~np.isin(distinct, other)]
    return dict(sorted(Counter(sources[place] for place in alone.tolist()).items()))


def _step_hashes(plan: Plan, keys: Keys) -> Keys:
    """Return a hash of each step: of its draws, their order and their packs."""
    bounds = plan.table["parts"].combine_chunks().offsets.to_numpy().astype(np.int64)
    pack = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    place = np.arange(len(keys)) - bounds[pack] + (pack % plan.packs_per_step << 20)
    mixed = splitmix(keys ^ splitmix(place.astype(np.uint64), 1), 2)
    reach = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])[bounds]
    found: Keys = np.diff(reach[:: plan.packs_per_step])
    return found


def _fields(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    flat = [
        _flat({name: header[name] for name in ("encoder", "catalog_version", "recipe")})
        for header in (a, b)
    ]
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(name) != flat[1].get(name)
    }


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """
    >>> _flat({"recipe": {"seed": 1, "sources": [{"source": "vqav2", "weight": 2}]}})
    {'recipe.seed': 1, 'recipe.sources.vqav2.source': 'vqav2', 'recipe.sources.vqav2.weight': 2}
    """
    if isinstance(values, dict):
        items = list(values.items())
    elif isinstance(values, list) and all(isinstance(value, dict) for value in values):
        items = [(value.get("source") or value.get("family"), value) for value in values]
    else:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for name, value in items:
        flat |= _flat(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def report(found: PlanDiff) -> Group:
    """Return the tables that `cuvee plan --diff` prints."""
    fields = Table(title=f"{found.a[:12]} -> {found.b[:12]}", title_justify="left")
    shares = Table(title="shares and samples", title_justify="left")
    for name in ("what", "before", "after"):
        fields.add_column(name, overflow="fold")
    for field, (old, new) in found.fields.items():
        fields.add_row(field, _short(old), _short(new))
    fields.add_row("draws", *(f"{count:,}" for count in found.draws))
    fields.add_row("steps", *(f"{count:,}" for count in found.steps))
    for name in ("entry", "before", "after"):
        shares.add_column(name, justify="left" if name == "entry" else "right")
    for entry, values in found.shares.items():
        shares.add_row(entry, *("-" if value is None else f"{value:.2%}" for value in values))
    lines = [
        f"samples in:  {_counted(found.samples_in)}",
        f"samples out: {_counted(found.samples_out)}",
    ]
    if found.first_step is None and found.steps[0] == found.steps[1]:
        lines.append("steps:       all the same")
    elif found.first_step is None:
        lines.append("steps:       one plan goes on where the other ends")
    else:
        lines.append(
            f"steps:       first touched {found.first_step:,}; {found.touched:,} of the "
            f"{min(found.steps):,} that both have"
        )
    return Group(fields, shares, Text("\n".join(lines)))


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _counted(counts: dict[str, int]) -> str:
    each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{sum(counts.values()):,}" + (f" ({each})" if each else "")
