"""Throughput: operations agree with a counter, and a run leaves its report."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from model.throughput import matmul_rate, step_flops
from model.train import train
from tests.model.models import batch_of, sample, tiny
from tests.model.runs import config, make_plan, metrics

CPU = torch.device("cpu")


@pytest.mark.parametrize("freeze", [(), ("vision",), ("vision", "language"), ("language",)])
def test_operations_are_those_a_counter_sees(freeze: tuple[str, ...]) -> None:
    model = tiny(attention="eager", freeze=freeze)
    model.vision.tower.set_attn_implementation("eager")
    batch = batch_of([[sample(200, 4, 0)]], 220)
    with FlopCounterMode(display=False) as counter:
        model(batch).backward()
    counted = counter.get_total_flops()
    # Eager attention computes what lies ahead of a token as well, and hides it.
    length, width, layers = 216, 32, 2
    hidden = 3 * 2 * layers * width * length**2
    found = step_flops(model, batch.segments, len(batch.pixels))
    assert counted == pytest.approx(found + hidden, rel=0.08)


def test_the_ceiling_is_measured() -> None:
    assert matmul_rate(CPU, "fp32") > 1e8


def test_a_run_leaves_its_report(tmp_path: Path) -> None:
    make_plan(tmp_path)
    run = config(tmp_path, "run", steps=3)
    console = Console(record=True, width=300)
    train(run, console=console)
    [line] = map(json.loads, (run.output / "throughput.jsonl").read_text().splitlines())
    steps = metrics(run)
    assert line["steps"] == 3
    assert line["tokens_per_second"] == pytest.approx(
        sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)
    )
    assert 0 < line["utilisation"] < 1
    assert 0 <= line["data_wait"] <= 1
    assert line["model_flops"] > 0
    assert line["memory_predicted"] > 0
    told = console.export_text()
    assert "memory foretold: " in told
    assert "of matrix products" in told
