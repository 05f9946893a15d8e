"""A catalog behind 20 ms of latency a request against the same catalog on the local disk.

    python -m tests.benchmarks.remote [samples]

The store is a small server process on the loopback that holds every answer back (tests.benchmarks.far);
nothing of the pictures is kept in the local cache from round to round. Both sides give the same batches.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from catalog import Catalog
from pipeline.loader import PlanLoader
from pipeline.plan import Plan
from tests.benchmarks.end_to_end import CORES, make_plan
from tests.benchmarks.timing import Side, interleaved, show
from tests.servers import s3_options

ROUNDS = 3
LATENCY = 0.02
OURS = "object store, 20 ms a request"


def load(plan: Plan, catalog: Catalog) -> int:
    """Load all batches; what an earlier round kept of the pictures is thrown away first."""
    if catalog.remote:
        catalog.remote.forget()
    return sum(batch.samples for batch in PlanLoader(plan, catalog=catalog, workers=CORES))


def main() -> None:
    """Print the table."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = make_plan(folder, samples)
        local = Catalog.open(folder / "catalog")
        words = [sys.executable, "-m", "tests.benchmarks.far", str(folder), str(LATENCY)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            try:
                options = s3_options(int(server.stdout.readline()))
                remote = Catalog.open(
                    "s3://vats/catalog", storage_options=options, shadow=folder / "shadow"
                )
                sides = {
                    OURS: partial(load, plan, remote),
                    "local disk": partial(load, plan, local),
                }
                rates = interleaved(sides, ROUNDS).wall
            finally:
                server.terminate()
    bars = {"local disk": 0.8}
    table = [Side(name=n, rate=r, bar=bars.get(n)) for n, r in rates.items()]
    show(OURS, table, "samples", f"the loader, {CORES} threads, {samples:,} samples of one picture")


if __name__ == "__main__":
    main()
