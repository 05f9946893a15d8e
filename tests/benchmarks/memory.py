"""Memory over very many batches: the resident set of one process that loads a plan over and over.

python -m tests.benchmarks.memory [batches]
"""

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from catalog import Catalog
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.benchmarks.timing import Told, tell
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

MARKS = 10


def make_plan(folder: Path) -> Plan:
    """Plan one epoch of small samples, one pack a step, one sample in two with a picture."""
    catalog = folder / "catalog"
    ingest(Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=600)), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 600)), catalog)
    values = {
        "name": "memory",
        "budget": {"epochs": 1},
        "sources": [{"source": "vqav2", "weight": 1}, {"source": "alpaca", "weight": 1}],
        "encoder": {"tokenizer": make_tokenizer(folder / "tok")},
        "image": {"kind": "resize", "size": 32, "tokens": 4},
        "packing": {"tokens": 128, "packs_per_step": 1},
    }
    return Plan.build(Catalog.open(catalog), Mixture.model_validate(values))


def resident() -> float:
    """Return this process's resident set, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Print the resident set as the batches go by."""
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Path(folder))
        done, marks, started = 0, [], perf_counter()
        while done < batches:
            for _ in PlanLoader(plan, workers=2):
                done += 1
                if done % (batches // MARKS) == 0:
                    marks.append(resident())
        rate = done / (perf_counter() - started)
    told = ", ".join(f"{mark:.0f}" for mark in marks)
    print(f"{done:,} batches ({rate:,.0f} a second): resident MB after each tenth: {told}")
    grown = f"{marks[-1] - marks[1]:+.1f}"
    print(f"growth from the second tenth to the last: {grown} MB")
    tell(Told(what=f"memory over {done:,} batches", against="MB of growth", ours=grown))


if __name__ == "__main__":
    main()
