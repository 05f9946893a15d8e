"""Small plans and runs for tests, and the real processes that train them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from catalog import Catalog
from model.config import RunConfig
from pipeline.encode import encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.model.models import values
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

ROOT = Path(__file__).parents[2]


def make_plan(folder: Path) -> Plan:
    """Write a catalog with pictures and text, and a plan of some steps of 4 packs."""
    catalog = folder / "catalog"
    ingest(Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=40)), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 30)), catalog)
    mixture = Mixture.model_validate(
        {
            "name": "try",
            "budget": {"epochs": 1},
            "sources": [
                {"source": "vqav2", "weight": 4, "max_epochs": 2},
                {"source": "alpaca", "weight": 3, "max_epochs": 2},
            ],
            "encoder": {"tokenizer": make_tokenizer(folder / "tok")},
            "image": {"size": 16, "tokens": 4},
            "packing": {"tokens": 48, "packs_per_step": 4},
        }
    )
    encode(Catalog.open(catalog), mixture.encoder)
    return Plan.build(Catalog.open(catalog), mixture)


def config(folder: Path, output: str, **changed: Any) -> RunConfig:
    """Return a run on the plan of `folder`."""
    return RunConfig.model_validate(
        values(
            catalog=folder / "catalog",
            output=folder / output,
            **{"micro_batch": 1, "checkpoint_every": 2, "workers": 1, **changed},
        )
    )


def metrics(run: RunConfig) -> list[dict[str, float]]:
    """Return the metrics of each step."""
    lines = (run.output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def start(run: RunConfig, code: str) -> subprocess.Popen[str]:
    """Start a process that runs `code` with the run as `config`."""
    head = (
        "import os, signal, sys, yaml\n"
        "from model.config import RunConfig\n"
        "from model.launch import launch\n"
        f"config = RunConfig.model_validate(yaml.safe_load({run.dump()!r}))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
