"""Side-by-side timing: rounds of all sides interleaved in one process, medians, a table of ratios."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

Work = Callable[[], int]
"""Does a side's work and returns how many items it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One row of a table: its rate in items a second, or why there is none."""

    name: str
    rate: float | None
    note: str = ""
    bar: float | None = None
    """We must be faster by at least this."""


def processor() -> float:
    """Return the processor seconds of this process and of its living children."""
    tick, total = os.sysconf("SC_CLK_TCK"), process_time()
    for child in active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / tick
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Items a second of each side: by the clock on the wall, and by processor time.

    On a machine that others use too, processor time says more; times the cores, it is the rate that a
    side reaches when nothing keeps it waiting.
    """

    wall: dict[str, float]
    processor: dict[str, float]


def interleaved(sides: Mapping[str, Work], rounds: int) -> Rates:
    """Run every side once a round, in turn; return the median rate of each.

    One round before the first is not counted: files come into the page cache, code gets compiled.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    used: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            started, spent = perf_counter(), processor()
            items = work()
            if number:
                wall[name].append(items / (perf_counter() - started))
                used[name].append(items / max(processor() - spent, 1e-3))
    return Rates(
        wall={name: median(values) for name, values in wall.items()},
        processor={name: median(values) for name, values in used.items()},
    )


RESULTS = "CUVEE_BENCHMARKS"
"""Names the file that figures are told to, where all benchmarks run together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One line of the table of all benchmarks."""

    what: str
    against: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    bar: str = ""


def tell(told: Told) -> None:
    """Add a line to the table of all benchmarks."""
    if RESULTS in os.environ:
        with Path(os.environ[RESULTS]).open("a") as file:
            file.write(json.dumps(asdict(told)) + "\n")


def show(ours: str, sides: list[Side], unit: str, title: str) -> None:
    """Print a table; the last columns say by how much `ours` is faster, and the bar for that."""
    [base] = [side.rate for side in sides if side.name == ours]
    assert base is not None
    print(f"\n{title}\n\n| side | {unit}/s | {ours} is faster by | bar |")
    print("| --- | ---: | ---: | ---: |")
    for side in sides:
        if side.rate is None:
            print(f"| {side.name} | {side.note} | | |")
            continue
        name = f"{side.name} ({side.note})" if side.note else side.name
        bar = "" if side.bar is None else f"{side.bar:g}"
        ratio = "" if side.name == ours else f"{base / side.rate:.2f}"
        print(f"| {name} | {side.rate:,.0f} | {ratio} | {bar} |", flush=True)
        if side.bar is not None:
            each = f"{base:,.0f}", f"{side.rate:,.0f}"
            tell(Told(what=title, against=name, ours=each[0], theirs=each[1], ratio=ratio, bar=bar))
