"""From catalog to committed plan on one core: draws a second and peak memory, by number of samples.

    python -m tests.benchmarks.plan [millions of samples, such as 1 10 100]

Catalogs are real ones of made-up samples (tests/benchmarks/synthetic.py), written first and not timed.
Each plan is built in a process of its own that is bound to one core, with one thread in every library;
mixing, lengths, packing, order and writing together. CPU seconds are printed beside the wall's: where
other processes share the core, these tell what a free core would do. What a thousand million samples
need is told by the slope between the last two rows. 100 million take 20 GB of disk, and 12 GB of memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from tests.benchmarks.synthetic import write_catalog

THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_NUM_THREADS")


def build(folder: Path) -> None:
    """Build the plan of a folder's catalog and print what it took, as JSON."""
    import pyarrow as pa

    from catalog import Catalog
    from pipeline.mixture import Mixture
    from pipeline.plan import Plan

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    mixture = Mixture.load(folder / "recipe.yaml")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, used = perf_counter(), process_time()
    plan = Plan.build(Catalog.open(folder / "catalog"), mixture)
    print(
        json.dumps(
            {
                "wall": perf_counter() - wall,
                "cpu": process_time() - used,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                "before": before / 1e6,
                "draws": sum(entry["draws"] for entry in plan.header["entries"]),
                "steps": plan.steps,
                "occupancy": plan.header["packing"]["of_lower_bound"],
                "size": plan.file.stat().st_size,
            }
        )
    )


def measured(folder: Path) -> dict[str, float]:
    """Build in a process of its own, on one core."""
    core = min(os.sched_getaffinity(0))
    run = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, "-m", __spec__.name, "--build", str(folder)],
        env=os.environ | dict.fromkeys(THREADS, "1"),
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--build"]:
        build(Path(sys.argv[2]))
        return
    millions = [float(word) for word in sys.argv[1:]] or [1.0, 10.0]
    print(
        "| samples | draws/s (wall) | draws/s (CPU) | peak memory GB | of lower bound | plan MB |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    rows = []
    for count in millions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_catalog(folder, int(count * 1e6))
            found = measured(folder)
        rows.append(found)
        print(
            f"| {int(count * 1e6):,} | {found['draws'] / found['wall']:,.0f} "
            f"| {found['draws'] / found['cpu']:,.0f} | {found['peak']:.2f} "
            f"| {found['occupancy']:.4f} | {found['size'] / 1e6:.0f} |",
            flush=True,
        )
    if len(rows) > 1:
        print(f"\n{extrapolated(rows[-2], rows[-1])}")


def extrapolated(few: dict[str, float], many: dict[str, float], draws: float = 1e9) -> str:
    """Return what so many draws need if time and memory grow as from `few` to `many`.

    >>> extrapolated(
    ...     {"draws": 1e6, "cpu": 2.0, "peak": 0.4, "size": 9e6},
    ...     {"draws": 1e7, "cpu": 11.0, "peak": 1.3, "size": 9e7},
    ... )
    '1,000,000,000 draws need 1,001 processor seconds, 100 GB of memory and a file of 9 GB, by this slope'
    """
    more = (draws - many["draws"]) / (many["draws"] - few["draws"])
    cpu, peak, size = (many[k] + more * (many[k] - few[k]) for k in ("cpu", "peak", "size"))
    return (
        f"{draws:,.0f} draws need {cpu:,.0f} processor seconds, {peak:,.0f} GB of memory and a file of "
        f"{size / 1e9:,.0f} GB, by this slope"
    )


if __name__ == "__main__":
    main()
