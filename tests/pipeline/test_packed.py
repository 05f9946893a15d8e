"""A plan handed to other trainers: the same rows in the same order."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.loader import PlanLoader
from pipeline.packed import PackedDataset, collate
from pipeline.plan import Plan
from tests.pipeline.conftest import Build

ROOT = Path(__file__).parent.parent.parent
NAMES = ("tokens", "labels", "positions", "segments", "pixels")


@pytest.fixture(scope="module")
def plan(built: Build) -> Plan:
    return built(image={"kind": "resize", "size": 16, "tokens": 4})


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (0, 1), (2, 1)])
def test_batches_of_a_step_are_the_loaders(plan: Plan, workers: int, start: int) -> None:
    dataset = PackedDataset(plan.file.parent, start_step=start)
    assert len(dataset) == (plan.steps - start) * plan.packs_per_step
    loader = DataLoader(
        dataset,
        batch_size=plan.packs_per_step,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,
    )
    count = 0
    for rows, batch in zip(loader, PlanLoader(plan, start_step=start, workers=0), strict=True):
        assert all(torch.equal(rows[name], getattr(batch, name)) for name in NAMES)
        assert int(rows["loss_tokens"]) == batch.loss_tokens
        count += 1
    assert count == plan.steps - start > 0
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def losses(example: str, *words: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.examples.{example}", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"^step (\d+: loss [\d.]+)$", done.stdout, re.MULTILINE)


def test_the_examples_train_on_every_step(plan: Plan, tmp_path: Path) -> None:
    words = (plan.file.parents[2], plan.id)
    plain = losses("plain_pytorch", *words)
    assert [line.split(":")[0] for line in plain] == [str(step) for step in range(plan.steps)]
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("transformers.Trainer needs accelerate, which is not installed")
    trained = losses("transformers_trainer", *words, tmp_path / "out")
    assert [line.split(":")[0] for line in trained] == [str(step) for step in range(plan.steps)]
    assert trained[0] == plain[0]
