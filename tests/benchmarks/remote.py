"""A catalog behind 20 ms of latency a request against the same catalog on the local disk.

    python -m tests.benchmarks.remote [samples]

The store is a small server process on the loopback that holds every answer back (tests.benchmarks.far).
It has a core of its own, as a store has a machine of its own; all sides share the others. Without
latency too, it shows what HTTP itself costs. Nothing of the pictures is kept in the local cache from
round to round. All sides give the same batches.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from catalog import Catalog
from pipeline.loader import PlanLoader
from pipeline.plan import Plan
from tests.benchmarks.end_to_end import make_plan
from tests.benchmarks.timing import Side, interleaved, show
from tests.servers import s3_options

ROUNDS = 3
LATENCY = 0.02
OURS = "object store, 20 ms a request"
NEAR = "the same, no latency"


def load(plan: Plan, catalog: Catalog, workers: int) -> int:
    """Load all batches; what an earlier round kept of the pictures is thrown away first."""
    if catalog.remote:
        catalog.remote.forget()
    return sum(batch.samples for batch in PlanLoader(plan, catalog=catalog, workers=workers))


@contextmanager
def store(folder: Path, latency: float, core: int) -> Iterator[Catalog]:
    """Serve the catalog of a folder from a core, every answer this late; give it as read from there."""
    words = [sys.executable, "-m", "tests.benchmarks.far", str(folder), str(latency)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        os.sched_setaffinity(server.pid, {core})
        try:
            options = s3_options(int(server.stdout.readline()))
            shadow = folder / f"shadow {latency}"
            yield Catalog.open("s3://vats/catalog", storage_options=options, shadow=shadow)
        finally:
            server.terminate()


def main() -> None:
    """Print the tables."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    *ours, theirs = sorted(os.sched_getaffinity(0))
    # All threads made from here on; there are no others that work.
    os.sched_setaffinity(0, ours)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = make_plan(folder, samples)
        with store(folder, LATENCY, theirs) as far, store(folder, 0, theirs) as near:
            sides = {OURS: far, NEAR: near, "local disk": Catalog.open(folder / "catalog")}
            work = {
                side: partial(load, plan, catalog, len(ours)) for side, catalog in sides.items()
            }
            rates = interleaved(work, ROUNDS)
    for by, found in (("the clock", rates.wall), ("processor time of the loader", rates.processor)):
        bars = {"local disk": 0.8} if found is rates.wall else {}
        title = f"object store, {len(ours)} loader threads, {samples:,} samples, by {by}"
        table = [Side(name=n, rate=r, bar=bars.get(n)) for n, r in found.items()]
        show(OURS, table, "samples", title)


if __name__ == "__main__":
    main()
