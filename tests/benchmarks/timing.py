"""Side-by-side timing: rounds of all sides interleaved in one process, medians, a table of ratios."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


def costs(sides: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """As `interleaved`, but return items a processor second, children included.

    On a machine that others use too, this says more than the clock on the wall; times the cores, it is
    the rate that a side reaches when nothing keeps it waiting.
    """
    return _measured(sides, rounds, processor)


def interleaved(sides: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Run every side once a round, in turn; return the median rate of each, in items a second.

    One round before the first is not counted: files come into the page cache, code gets compiled.
    """
    return _measured(sides, rounds, perf_counter)


def _measured(
    sides: Mapping[str, Work], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            started = clock()
            items = work()
            if number:
                rates[name].append(items / (clock() - started))
    return {name: median(values) for name, values in rates.items()}


def show(ours: str, sides: list[Side], unit: str) -> None:
    """Print a table; the last columns say by how much `ours` is faster, and the bar for that."""
    [base] = [side.rate for side in sides if side.name == ours]
    assert base is not None
    print(f"\n| side | {unit}/s | {ours} is faster by | bar |\n| --- | ---: | ---: | ---: |")
    for side in sides:
        if side.rate is None:
            print(f"| {side.name} | {side.note} | | |")
            continue
        name = f"{side.name} ({side.note})" if side.note else side.name
        bar = "" if side.bar is None else f"{side.bar:g}"
        ratio = "" if side.name == ours else f"{base / side.rate:.2f}"
        print(f"| {name} | {side.rate:,.0f} | {ratio} | {bar} |")
