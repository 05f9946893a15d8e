"""Throughput: operations agree with a counter, states with the tensors, and a run leaves its report."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from model.config import RunConfig
from model.engine import parameter_groups
from model.throughput import activations, matmul_rate, peak, states, step_flops
from model.train import train
from tests.model.models import batch_of, sample, tiny, values
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


def test_the_state_is_what_the_tensors_take() -> None:
    run = RunConfig.model_validate(values(freeze=["vision"]))
    model = tiny(freeze=["vision"])
    optimizer = torch.optim.AdamW(parameter_groups(model, run))
    model(batch_of([[sample(9, 1, 0)]], 24)).backward()
    optimizer.step()
    kept: list[torch.Tensor] = list(model.parameters())
    kept += [p.grad for p in model.parameters() if p.grad is not None]
    kept += [v for state in optimizer.state.values() for n, v in state.items() if n != "step"]
    assert states(model, run, ranks=1) == sum(4 * tensor.numel() for tensor in kept)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    shared = RunConfig.model_validate(values(freeze=["vision"], zero=1))
    assert states(model, shared, ranks=4) == 4 * every + 4 * learning + 12 * learning // 4
    far = RunConfig.model_validate(values(freeze=["vision"], zero=3, offload=True))
    assert states(model, far, ranks=1) == 4 * every + 4 * learning


def test_checkpointing_and_smaller_batches_keep_less() -> None:
    plain, saving = (
        RunConfig.model_validate(values(gradient_checkpointing=on)) for on in (False, True)
    )
    model = tiny()
    assert activations(model, saving, 100, 2, 50) < activations(model, plain, 100, 2, 50)
    assert activations(model, plain, 50, 1, 25) * 2 == activations(model, plain, 100, 2, 50)


def test_the_ceiling_and_the_peak_are_measured() -> None:
    assert matmul_rate(CPU, "fp32") > 1e8
    before = peak(CPU)
    held = torch.ones(16 << 20)
    assert peak(CPU) >= before
    assert held.sum() > 0


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
    assert "of matrix products" in console.export_text()
