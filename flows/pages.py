"""Self-contained HTML pages: what a catalog holds, and what became of a run.

Charts are inline SVG, pictures are data URLs; a page asks the network for nothing, and says so in
its content security policy.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from catalog import Catalog
from catalog.errors import UserError
from catalog.statistics import Statistics
from flows.cards import Card, clip, prediction_cards, sample_cards
from model.items import read_items
from pipeline.mixture import UNITS
from pipeline.plan import Plan
from pipeline.preview import Preview

COLOURS = 8
"""Colours of sources in the style sheet; more sources than that share them."""
SCRIPTS_SHOWN = 3
"""Scripts of a source that are named."""
POINTS = 240
"""Points of a training curve; more steps are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line in a field of 1000 by 1000, y downwards, and its axes."""

    line: str
    """SVG points of the means."""
    band: str
    """SVG points of a polygon from the lowest to the highest of each bucket."""
    ticks: tuple[tuple[float, str], ...]
    """(y in percent from above, label)."""
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One source's scores on one split."""

    source: str
    split: str
    title: str
    questions: int
    bars: tuple[tuple[str, float], ...]
    """(who, share in percent)."""
    says: str
    """What the majority baseline is."""
    types: tuple[tuple[str, float, float], ...]
    """(question type, model, majority), in percent."""
    cards: tuple[Card, ...]


def statistics_page(
    statistics: Statistics,
    path: Path,
    *,
    catalog: Catalog,
    plan: Plan | Preview | None = None,
    each: int = 6,
) -> Path:
    """Write the page of a catalog's statistics, with `each` samples a source; return its path.

    Args:
        statistics: of the catalog.
        path: the page.
        catalog: for its pictures.
        plan: a plan to show too, or what a recipe would draw.
        each: samples shown of each source.
    """
    shown = None if plan is None else _plan(plan)
    text = (
        environment()
        .get_template("statistics.html.j2")
        .render(
            title=f"Catalog {catalog.path.resolve().name}",
            vats=_vats(catalog, shown),
            version=catalog.version,
            statistics=_counted(statistics),
            samples=sample_cards(catalog, each),
            plan=shown,
        )
    )
    return write_page(path, text)


def report_page(
    path: Path,
    *,
    catalog: Catalog,
    run: Path,
    plan: Plan | None = None,
    statistics: Statistics | None = None,
    each: int = 8,
) -> Path:
    """Write the page of a run: scores, predictions, training, plan and data; return its path.

    Args:
        path: the page.
        catalog: the run's catalog, for its pictures.
        run: the run's folder; parts that it does not hold yet are left out.
        plan: the run's plan.
        statistics: of the catalog, if they are to be on the page.
        each: predictions shown of each source.
    """
    shown = None if plan is None else _plan(plan)
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            title=f"Run {run.resolve().name}",
            vats=_vats(catalog, shown),
            version=catalog.version,
            judged=_judged(catalog, run, each),
            training=_training(run / "metrics.jsonl"),
            plan=shown,
            statistics=None if statistics is None else _counted(statistics),
        )
    )
    return write_page(path, text)


def _vats(catalog: Catalog, plan: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the colour of each source and recipe entry: the same one all over a page."""
    entries = [] if plan is None else [entry["name"] for entry in plan["entries"]]
    names = dict.fromkeys([*catalog.sources(), *entries])
    return {name: place % COLOURS for place, name in enumerate(names)}


def environment() -> Environment:
    """Return the templates, with the filters they use."""
    environment = Environment(
        loader=PackageLoader("flows", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "percent": _percent}
    return environment


def write_page(path: Path, text: str) -> Path:
    """Write a page whole or not at all; return its path."""
    if path.is_dir():
        raise UserError(f"{path} is a folder", fix="name a file, such as report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)
    return path


def _count(value: float | None) -> str:
    """
    >>> _count(12345), _count(1.25), _count(None)
    ('12,345', '1.2', '–')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _percent(value: float | None) -> str:
    """
    >>> _percent(12.345), _percent(None)
    ('12.3 %', '–')
    """
    return "–" if value is None else f"{value:.1f} %"


def _counted(statistics: Statistics) -> dict[str, Any]:
    sources = statistics.sources.to_dicts()
    total = sum(row["samples"] for row in sources)
    sides = [(_range(low, high), count) for low, high, count in statistics.sides.iter_rows()]
    return {
        "sources": sources,
        "blend": [(row["source"], 100 * row["samples"] / total) for row in sources],
        "samples": total,
        "pictures": sum(count for _, count in sides),
        "refused": int(statistics.refusals["count"].sum()),
        "refusals": statistics.refusals.to_dicts(),
        "licenses": statistics.licenses.to_dicts(),
        "sides": _inner(sides),
        "families": statistics.families.to_dicts(),
        "scripts": _shares(statistics),
        "encoders": _encoders(statistics),
    }


def _shares(statistics: Statistics) -> dict[str, str]:
    """Return source -> its scripts with their shares, largest first."""
    said: dict[str, list[str]] = {}
    for source, script, share in statistics.scripts.iter_rows():
        said.setdefault(source, []).append(f"{script} {share:.0%}")
    return {source: ", ".join(parts[:SCRIPTS_SHOWN]) for source, parts in said.items()}


def _encoders(statistics: Statistics) -> list[dict[str, Any]]:
    """Return what each encoder made of the samples: tokens by source, and a histogram of lengths."""
    return [
        {
            "name": encoder[:12],
            "tokens": [row for row in statistics.tokens.to_dicts() if row["encoder"] == encoder],
            "lengths": _inner(
                [
                    (_range(low, high), count)
                    for name, low, high, count in statistics.lengths.iter_rows()
                    if name == encoder
                ]
            ),
        }
        for encoder in statistics.tokens["encoder"].unique().sort()
    ]


def _inner(bins: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return a histogram without its empty ends, but one empty bin at each.

    >>> _inner([("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 0)])
    [('b', 0), ('c', 1), ('d', 0)]
    """
    full = [place for place, (_, count) in enumerate(bins) if count]
    return list(bins[max(0, full[0] - 1) : full[-1] + 2]) if full else []


def _range(low: int, high: int) -> str:
    """
    >>> _range(0, 224), _range(4096, 2**31 - 1)
    ('< 224', '≥ 4,096')
    """
    if high >= 2**31 - 1:
        return f"≥ {low:,}"
    return f"{low:,}–{high - 1:,}" if low else f"< {high:,}"


def _plan(plan: Plan | Preview) -> dict[str, Any]:
    """Return the pre-flight: shares asked for and given, and what became of the samples."""
    if isinstance(plan, Plan):
        recipe, entries = plan.header["recipe"], plan.header["entries"]
        name, steps, packing = plan.id[:12], plan.steps, plan.header["packing"]
    else:
        recipe, entries, name, steps = plan.recipe, plan.entries, None, plan.steps
        full = plan.tokens / max(plan.packs * recipe["packing"]["tokens"], 1)
        packing = {
            "tokens": plan.tokens,
            "loss_tokens": plan.loss_tokens,
            "tiles": plan.tiles,
            "occupancy": full,
        }
    unit = recipe["unit"]
    return {
        "id": name,
        "name": recipe["name"],
        "unit": unit,
        "units": UNITS,
        "steps": steps,
        "packs_per_step": recipe["packing"]["packs_per_step"],
        "packing": packing,
        "entries": entries,
        "requested": [(entry["name"], 100 * entry["requested"]) for entry in entries],
        "realised": [(entry["name"], 100 * entry["realised"][unit]) for entry in entries],
    }


def _training(file: Path) -> dict[str, Any] | None:
    """Return the curve of a run and its figures, None where nothing was trained."""
    steps = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            steps.append(json.loads(line))
        except ValueError:
            # The last line of a run that is being written, or was killed.
            continue
    steps = [step for step in steps if math.isfinite(step["loss"])]
    if not steps:
        return None
    losses = [float(step["loss"]) for step in steps]
    seconds = sum(float(step.get("seconds", 0.0)) for step in steps)
    waited = sum(float(step.get("stall", 0.0)) * float(step.get("seconds", 0.0)) for step in steps)
    return {
        "curve": curve(losses, first=int(steps[0]["step"])),
        "steps": len(steps),
        "loss": losses[-1],
        "minutes": seconds / 60,
        "rate": median(float(step.get("tokens_per_second", 0.0)) for step in steps),
        "samples": int(sum(step.get("samples", 0) for step in steps)),
        "stall": 100 * waited / seconds if seconds else 0.0,
    }


def curve(values: Sequence[float], *, first: int = 0) -> Curve:
    """Return the line of a sequence, long ones averaged in buckets, from zero to above its top.

    >>> curve([2.0, 1.0]).line
    '0,0 1000,500'
    """
    size = math.ceil(len(values) / POINTS)
    buckets = [values[start : start + size] for start in range(0, len(values), size)]
    step = 1000 / max(1, len(buckets) - 1)
    marks = _ticks(max(max(bucket) for bucket in buckets))
    top = marks[-1]

    def point(place: int, value: float) -> str:
        return f"{place * step:.5g},{1000 * (1 - value / top):.4g}"

    highest = [point(place, max(bucket)) for place, bucket in enumerate(buckets)]
    lowest = [point(place, min(bucket)) for place, bucket in enumerate(buckets)]
    means = [sum(bucket) / len(bucket) for bucket in buckets]
    return Curve(
        line=" ".join(point(place, value) for place, value in enumerate(means)),
        band=" ".join(highest + lowest[::-1]),
        ticks=tuple((100 * (1 - mark / top), f"{mark:g}") for mark in marks),
        first=first,
        last=first + len(values) - 1,
    )


def _ticks(top: float) -> list[float]:
    """Return round numbers from zero to the first that is not below `top`; next to nothing is zero.

    >>> _ticks(2.3), _ticks(0.0)
    ([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [0.0, 1.0])
    """
    if top < 1e-9:
        return [0.0, 1.0]
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    return [float(f"{number * step:.6g}") for number in range(count + 1)]


def _judged(catalog: Catalog, run: Path, each: int) -> list[Judged]:
    """Return the scores of every split that was evaluated."""
    found = []
    for file in sorted(run.glob("eval/*/scores.json")):
        scores = json.loads(file.read_bytes())
        for source, result in scores["sources"].items():
            kept = file.parent / "items" / f"{source}.parquet"
            if "most" not in result or not kept.exists():
                # Of an older version, in a split that was not evaluated since.
                continue
            cards = prediction_cards(catalog, read_items(kept), each)
            found.append(_result(source, scores["split"], result, cards))
    return found


def _result(source: str, split: str, result: Mapping[str, Any], cards: Sequence[Card]) -> Judged:
    measure, most = result["measure"], result["most"] or 1.0
    constant = result["majority_answer"]
    if isinstance(constant, list):
        says = "Majority is the mean training box."
    else:
        says = f"Majority always says “{clip(constant, 40)}”." if constant else ""
    model, majority = result["model"] or {}, result["majority"] or {}
    return Judged(
        source=source,
        split=split,
        title=result["title"] if most == 1 else f"{result['title']}, of {most:,.0f}",
        questions=result["questions"],
        bars=tuple(
            (who, 100 * result[who][measure] / most)
            for who in ("model", "blind", "majority")
            if result[who] is not None
        ),
        says=says,
        types=tuple(
            (name.partition("/")[2], 100 * value, 100 * majority.get(name, 0.0))
            for name, value in model.items()
            if name.startswith("question_type/")
        ),
        cards=tuple(cards),
    )
