"""From catalog to committed plan on one core: draws a second and peak memory, by number of samples.

    python -m tests.benchmarks.plan [millions of samples, such as 1 10]

Catalogs are real ones of made-up samples (tests/benchmarks/synthetic.py), written first and not timed.
Each plan is built in a process of its own that is bound to one core, with one thread in every library;
mixing, lengths, packing, order and writing together. CPU seconds are printed beside the wall's: where
other processes share the core, these tell what a free core would do.
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
    for count in millions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_catalog(folder, int(count * 1e6))
            found = measured(folder)
        print(
            f"| {int(count * 1e6):,} | {found['draws'] / found['wall']:,.0f} "
            f"| {found['draws'] / found['cpu']:,.0f} | {found['peak']:.2f} "
            f"| {found['occupancy']:.4f} | {found['size'] / 1e6:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
