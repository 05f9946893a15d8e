"""Memory foretold: what the tensors of a run really take, and what autograd really keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from catalog import Catalog
from model.config import RunConfig
from model.engine import parameter_groups
from model.memory import Load, activations, foretell, held, load_of, peak
from model.vlm import CuveeModel
from pipeline.batch import IGNORE, LOCATION_TOKEN, Batch
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.model.models import (
    LANGUAGE,
    SIDE,
    VISION,
    VISUAL,
    VOCABULARY,
    batch_of,
    sample,
    tiny,
    values,
)
from tests.model.runs import config, make_plan
from tests.model.test_locations import DATA, located, pointing
from tests.model.test_sights import BRANCH, FINE
from tests.official import write_alpaca
from tests.tokenizer import make_tokenizer

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


def measured(model: nn.Module, batch: Batch, way: str) -> int:
    """Return the same in fp32, bf16, or under autocast, whose copies of matrices count as weights."""
    if way == "bf16":
        model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        found = kept(model, batch)
    copies = sum(2 * p.numel() for p in model.parameters() if p.ndim > 1)
    return found - (copies if way == "autocast" else 0)


def run_of(way: str, **changed: Any) -> RunConfig:
    half = {"precision": "fp32" if way == "fp32" else "bf16", "zero": 2 if way == "bf16" else 0}
    return RunConfig.model_validate(values(**half, **changed))


def load_in(batch: Batch) -> Load:
    """Return what a batch of one row loads a rank with."""
    return Load(
        tokens=int((batch.segments > 0).sum()),
        tiles=max(1, len(batch.pixels)),
        learnt=int((batch.labels != IGNORE).sum()),
        locations=int((batch.labels == LOCATION_TOKEN).sum()),
    )


@pytest.mark.parametrize("shapes", [{}, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize("pictures", [0, 12, 40])
@pytest.mark.parametrize("way", ["fp32", "autocast", "bf16"])
def test_activations_are_what_autograd_keeps(
    shapes: dict[str, Any], pictures: int, way: str
) -> None:
    model, run = tiny(**shapes), run_of(way, **shapes)
    batch = batch_of([[sample(250 - 4 * pictures, pictures, 0)]], 260)
    found = measured(model, batch, way)
    assert activations(model, run, load_in(batch)) == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("shapes", [{}, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize("way", ["fp32", "autocast", "bf16"])
def test_what_a_finer_look_keeps_is_counted(shapes: dict[str, Any], way: str) -> None:
    run = run_of(way, **shapes, **BRANCH)
    model = CuveeModel.build(run, FINE, VOCABULARY)
    batch = replace(batch_of([[sample(218, 8, 0)]], 260), fine=torch.randn(8, 3, 32, 32))
    plain, load = tiny(**shapes), load_in(batch)
    found = measured(model, batch, way)
    told = activations(model, run, load) - activations(plain, run, load)
    more = found - measured(plain, replace(batch, fine=None), way)
    assert more > 0.2 * found
    assert told == pytest.approx(more, rel=0.1)


@pytest.mark.parametrize("shapes", [{}, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize("way", ["fp32", "autocast", "bf16"])
def test_what_locations_keep_is_counted(shapes: dict[str, Any], way: str) -> None:
    run, rows = run_of(way, **shapes), [[sample(12, 0, seed) for seed in range(20)]]
    batch = pointing(rows, 250)
    found = measured(located(**shapes), batch, way)
    load = load_in(batch)
    told = activations(located(), run, load) - activations(
        located(), run, replace(load, locations=0)
    )
    more = found - measured(tiny(**shapes), batch_of(rows, 250), way)
    assert more > 0.2 * found
    assert told == pytest.approx(more, rel=0.1)


def test_the_locations_of_a_plan_are_those_of_its_batches(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tok")
    ingest(Job(source="refcoco", root=DATA / "refcoco"), tmp_path / "catalog")
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca", 30)), tmp_path / "catalog")
    mixture = Mixture.model_validate(
        {
            "name": "point",
            "budget": {"epochs": 1},
            "sources": [{"source": "refcoco"}, {"source": "alpaca"}],
            "encoder": {"tokenizer": tmp_path / "tok", "boxes": "pix2emb"},
            "image": {"size": SIDE, "tokens": VISUAL},
            "packing": {"tokens": 96, "packs_per_step": 2},
        }
    )
    plan = Plan.build(Catalog.open(tmp_path / "catalog"), mixture)
    points = [(batch.tokens == LOCATION_TOKEN).sum(1) for batch in PlanLoader(plan, workers=0)]
    assert 0 in torch.cat(points)
    for size, most in (
        (1, max(int(p.max()) for p in points)),
        (2, max(int(p.sum()) for p in points)),
    ):
        run = RunConfig.model_validate(values(catalog=tmp_path / "catalog", micro_batch=size))
        assert load_of(plan, run, 1).locations == most > 0


def test_the_state_is_what_the_tensors_take() -> None:
    run = RunConfig.model_validate(values(freeze=["vision"], **BRANCH))
    model = CuveeModel.build(run, FINE, VOCABULARY, located=True)
    optimizer = torch.optim.AdamW(parameter_groups(model, run))
    batch = replace(batch_of([[sample(9, 1, 0)]], 24), fine=torch.randn(1, 3, 32, 32))
    model(batch).backward()
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
        shared = RunConfig.model_validate(values(freeze=["vision"], **BRANCH, **changed))
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
