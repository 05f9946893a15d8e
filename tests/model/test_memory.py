"""Memory foretold: what the tensors of a run really take, and what autograd really keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.config import RunConfig
from model.engine import parameter_groups
from model.memory import Load, activations, foretell, held, load_of, peak
from pipeline.batch import IGNORE, Batch
from tests.model.models import LANGUAGE, VISION, batch_of, sample, tiny, values
from tests.model.runs import config, make_plan

CPU = torch.device("cpu")
NOTHING = Load(tokens=0, tiles=0, learnt=0)
DEEP = {
    "language": {"config": {**LANGUAGE, "num_hidden_layers": 4, "intermediate_size": 160}},
    "vision": {"config": {**VISION, "num_hidden_layers": 4, "hidden_size": 32}},
}


def kept(model: nn.Module, batch: Batch) -> int:
    """Return the bytes that autograd keeps of a forward pass, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(batch)
    assert loss.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("shapes", [{}, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize("pictures", [0, 12, 40])
@pytest.mark.parametrize("way", ["fp32", "autocast", "bf16"])
def test_activations_are_what_autograd_keeps(
    shapes: dict[str, Any], pictures: int, way: str
) -> None:
    model = tiny(**shapes)
    batch = batch_of([[sample(250 - 4 * pictures, pictures, 0)]], 260)
    load = Load(tokens=250, tiles=max(1, pictures), learnt=int((batch.labels != IGNORE).sum()))
    half = {"precision": "fp32" if way == "fp32" else "bf16", "zero": 2 if way == "bf16" else 0}
    run = RunConfig.model_validate(values(**shapes, **half))
    if way == "bf16":
        model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        found = kept(model, batch)
    # Copies that autocast makes of the matrices are counted as weights.
    copies = sum(2 * p.numel() for p in model.parameters() if p.ndim > 1)
    found -= copies if way == "autocast" else 0
    assert activations(model, run, load) == pytest.approx(found, rel=0.15)


def test_the_state_is_what_the_tensors_take() -> None:
    run = RunConfig.model_validate(values(freeze=["vision"]))
    model = tiny(freeze=["vision"])
    optimizer = torch.optim.AdamW(parameter_groups(model, run))
    model(batch_of([[sample(9, 1, 0)]], 24)).backward()
    optimizer.step()
    told = foretell(model, run, 1, NOTHING)
    assert told.weights == sum(4 * p.numel() for p in model.parameters())
    assert told.gradients == sum(
        4 * p.grad.numel() for p in model.parameters() if p.grad is not None
    )
    moments = [v for state in optimizer.state.values() for n, v in state.items() if n != "step"]
    assert told.optimizer == sum(4 * tensor.numel() for tensor in moments)
    assert told.total == told.weights + told.gradients + told.optimizer
    every, learning = told.weights // 4, told.gradients // 4

    def of(ranks: int, **changed: Any) -> tuple[int, int, int]:
        shared = RunConfig.model_validate(values(freeze=["vision"], **changed))
        found = foretell(model, shared, ranks, NOTHING)
        return found.weights, found.gradients, found.optimizer

    assert of(4, zero=1) == (4 * every, 4 * learning, 12 * learning // 4)
    assert of(4, zero=2, precision="bf16") == (2 * every, 2 * learning // 4, 12 * learning // 4)
    assert of(1, zero=3, offload=True) == (4 * every, 4 * learning, 0)
    assert of(4, engine="fsdp2") == (every, learning, 2 * learning)
    assert of(1, precision="bf16") == (6 * every, 4 * learning, 8 * learning)


def test_checkpointing_and_smaller_batches_keep_less(tmp_path: Path) -> None:
    plan, model = make_plan(tmp_path), tiny()
    one, four = (load_of(plan, config(tmp_path, "run", micro_batch=size), 1) for size in (1, 4))
    assert one.tokens == max(p.tokens for n in range(plan.steps) for p in plan.step(n).packs)
    assert four.tiles == max(sum(p.tiles for p in plan.step(n).packs) for n in range(plan.steps))
    assert load_of(plan, config(tmp_path, "run", micro_batch=8), 4) == one
    assert one.tiles <= four.tiles <= 4 * one.tiles
    plain, saving = (
        RunConfig.model_validate(values(gradient_checkpointing=on)) for on in (False, True)
    )
    assert activations(model, plain, one) < activations(model, plain, four)
    assert activations(model, saving, four) < activations(model, plain, four)


def test_the_peak_begins_anew() -> None:
    large = torch.ones(64 << 20)
    assert large.sum() > 0
    del large
    before = held(CPU)
    small = torch.ones(8 << 20)
    assert small.sum() > 0
    grown = peak(CPU) - before
    assert 30 << 20 < grown < 128 << 20
