"""Memory foretold against memory seen: runs of a few steps, each in a process of its own.

    python -m tests.benchmarks.footprint

Seen is the weights and by how much the process grew beyond them, with freed memory given back at once.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from catalog import Catalog
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

CASES: dict[str, dict[str, Any]] = {
    "small": {"width": 256, "layers": 4},
    "deep": {"width": 384, "layers": 8},
    "deep, checkpointing": {"width": 384, "layers": 8, "gradient_checkpointing": True},
    "deep, bf16": {"width": 384, "layers": 8, "precision": "bf16"},
    "deep, ZeRO 2": {"width": 384, "layers": 8, "zero": 2},
    "deep, ZeRO 2, bf16": {"width": 384, "layers": 8, "zero": 2, "precision": "bf16"},
    "deep, ZeRO 3": {"width": 384, "layers": 8, "zero": 3},
    "deep, FSDP2": {"width": 384, "layers": 8, "engine": "fsdp2"},
    "wide, language frozen": {"width": 768, "layers": 4, "freeze": ["language"]},
    "wide": {"width": 768, "layers": 4},
}


def make_plan(folder: Path) -> Plan:
    """Plan steps of 4 packs of 512 tokens with tiles of 96 pixels."""
    catalog = folder / "catalog"
    ingest(Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=400)), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 200)), catalog)
    values = {
        "name": "footprint",
        "budget": {"epochs": 1},
        "sources": [{"source": "vqav2", "weight": 2}, {"source": "alpaca", "weight": 1}],
        "encoder": {"tokenizer": make_tokenizer(folder / "tok")},
        "image": {"size": 96, "tokens": 9},
        "packing": {"tokens": 512, "packs_per_step": 4},
    }
    return Plan.build(Catalog.open(catalog), Mixture.model_validate(values))


def run_file(folder: Path, number: int, width: int, layers: int, **changed: Any) -> Path:
    """Write a run of three steps with towers of this width and depth."""
    tower = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    text = {"intermediate_size": 3 * width, "num_key_value_heads": width // 128}
    values = {
        "catalog": str(folder / "catalog"),
        "output": str(folder / f"run{number}"),
        "vision": {"config": {**tower, "intermediate_size": 4 * width, "patch_size": 16}},
        "language": {"config": {**tower, **text, "tie_word_embeddings": True}},
        "connector": {"merge": 2},
        "steps": 3,
        "micro_batch": 4,
        **changed,
    }
    path = folder / f"run{number}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def main() -> None:
    """Print a table of what was foretold and seen."""
    print("| run | foretold MiB | seen MiB | foretold / seen |\n| --- | ---: | ---: | ---: |")
    errors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_plan(folder)
        for number, (label, case) in enumerate(CASES.items()):
            file = run_file(folder, number, **case)
            subprocess.run(
                [sys.executable, "-m", "model.train", str(file)],
                check=True,
                capture_output=True,
                env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
            )
            found = json.loads((folder / f"run{number}/throughput.jsonl").read_text())
            told, seen = (found[f"memory_{how}"] / 2**20 for how in ("predicted", "measured"))
            errors.append(abs(told / seen - 1))
            print(f"| {label} | {told:,.0f} | {seen:,.0f} | {told / seen:.2f} |", flush=True)
    print(f"\nmean error {sum(errors) / len(errors):.0%}, largest {max(errors):.0%}")


if __name__ == "__main__":
    main()
