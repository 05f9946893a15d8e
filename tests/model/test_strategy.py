"""Training strategies: loss weights that packing cannot change, adapters, stages, offload."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from catalog.errors import UserError
from model.config import RunConfig
from model.loss import targets, weights
from model.train import _divisor, train
from model.transfer import load_connector
from model.vlm import CuveeModel
from tests.model.models import batch_of, sample, tiny, values
from tests.model.runs import config, make_plan, metrics
from tests.model.test_train import STOP, Stopped, stop

QUIET = Console(quiet=True)
SAMPLES = [sample(9, 1, 0), sample(5, 0, 1), sample(14, 2, 2), sample(4, 0, 3), sample(7, 1, 4)]
ROWS = [[SAMPLES[0], SAMPLES[1]], [SAMPLES[2]], [SAMPLES[3], SAMPLES[4]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strategy")
    make_plan(folder)
    return folder


def learnt(weighting: str, rows: list[Any]) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of rows, and its gradients."""
    model = tiny(weighting=weighting)
    batch = batch_of(rows, 40)
    divisor = weights(targets(batch.labels, batch.segments), batch.segments, model.weighting).sum()
    loss = model(batch) / divisor
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("weighting", ["token", "sqrt", "sample"])
def test_packed_and_alone_weigh_alike_in_loss_and_gradients(weighting: str) -> None:
    packed, packed_gradients = learnt(weighting, ROWS)
    alone, alone_gradients = learnt(weighting, [[one] for one in SAMPLES])
    assert packed == pytest.approx(alone, rel=1e-5)
    for mine, other in zip(packed_gradients, alone_gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-6)
    # By the definition: a weighted mean of the samples' own mean losses.
    model = tiny()
    total = share = 0.0
    for one in SAMPLES:
        batch = batch_of([[one]], 40)
        count = int((targets(batch.labels, batch.segments) != -100).sum())
        weigh = {"token": count, "sqrt": count**0.5, "sample": 1}[weighting]
        total += weigh * model(batch).item() / count
        share += weigh
    assert packed == pytest.approx(total / share, rel=1e-5)


def test_weighted_steps_do_not_depend_on_micro_batches(folder: Path) -> None:
    runs = [
        config(folder, f"weighted{size}", weighting="sample", micro_batch=size, steps=3)
        for size in (1, 4)
    ]
    for run in runs:
        train(run, console=QUIET)
    one, four = ([line["loss"] for line in metrics(run)] for run in runs)
    assert one == pytest.approx(four, rel=1e-5)
    batch, device = batch_of(ROWS, 40), torch.device("cpu")
    assert _divisor(batch, runs[0], 1, device) == pytest.approx(len(SAMPLES))
    assert _divisor(batch, config(folder, "plain"), 1, device) == batch.loss_tokens


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_an_offloaded_optimizer_learns_the_same_and_continues(folder: Path, zero: int) -> None:
    near = config(folder, f"near{zero}", zero=zero)
    far = config(folder, f"far{zero}", zero=zero, offload=True)
    train(near, console=QUIET)
    with pytest.raises(Stopped):
        train(far, stop, QUIET)
    train(far, console=QUIET)
    one, other = ([line["loss"] for line in metrics(run)] for run in (near, far))
    assert len(one) > STOP + 1
    assert other == pytest.approx(one, rel=1e-5)


def test_adapters_learn_alone_and_are_merged(folder: Path) -> None:
    pytest.importorskip("peft")
    model = tiny(lora={"rank": 2}).eval()
    learning = {name for name, p in model.language.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    for name, parameter in model.language.named_parameters():
        if name in learning:
            torch.nn.init.normal_(parameter)
    batch = batch_of(ROWS, 40)
    expected = model(batch).item()
    assert expected != pytest.approx(tiny()(batch).item(), rel=1e-3)
    model.save(folder / "merged")
    loaded = CuveeModel.load(folder / "merged").eval()
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert loaded(batch).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match=r"lora: [\s\S]*name layers of this language model"):
        tiny(lora={"targets": ["no_such_layer"]})


def test_a_run_with_adapters_is_continued(folder: Path) -> None:
    pytest.importorskip("peft")
    changed = {"lora": {"rank": 2}, "zero": 2, "optim": {"lr": 1e-2}}
    whole, cut = config(folder, "lora", **changed), config(folder, "lora-cut", **changed)
    train(whole, console=QUIET)
    with pytest.raises(Stopped):
        train(cut, stop, QUIET)
    train(cut, console=QUIET)
    one, other = ([line["loss"] for line in metrics(run)] for run in (whole, cut))
    assert other == pytest.approx(one, rel=1e-5)
    assert one[-1] < one[0]


def test_stages_follow_one_another_and_are_continued(folder: Path) -> None:
    stages = [
        {"name": "warm", "freeze": ["vision", "language"], "steps": 2, "optim": {"lr": 1e-2}},
        {"name": "all"},
    ]
    run = config(folder, "staged", stages=stages)
    with pytest.raises(Stopped):
        train(run, stop, QUIET)
    assert (run.output / "stages/warm/model/cuvee.json").exists()
    assert not (run.output / "model").exists()
    before = (run.output / "stages/warm/metrics.jsonl").read_text()
    assert train(run, console=QUIET) == run.output / "model"
    assert (run.output / "stages/warm/metrics.jsonl").read_text() == before
    first, second = run.unfold()
    assert len(metrics(first)) == 2
    assert len(metrics(second)) > STOP + 1
    warm = CuveeModel.load(first.output / "model")
    fresh = tiny()
    for name, value in warm.vision.state_dict().items():
        assert torch.equal(value, fresh.vision.state_dict()[name]), name
    # What the second stage starts from is what the first one left.
    policy, vocabulary = _policy_and_vocabulary(folder)
    start = CuveeModel.build(second, policy, vocabulary)
    for name, value in start.state_dict().items():
        assert torch.equal(value, warm.state_dict()[name]), name
    end = CuveeModel.load(run.output / "model").state_dict()
    assert any(not torch.equal(value, end[name]) for name, value in warm.state_dict().items())


def _policy_and_vocabulary(folder: Path) -> Any:
    from model.language import vocabulary_of
    from pipeline.plan import Plan
    from pipeline.policy import ImagePolicy

    header = Plan.open(folder / "catalog").header
    policy = ImagePolicy.model_validate(header["recipe"]["image"])
    return policy, vocabulary_of(Path(header["tokenizer"]))


def test_what_does_not_go_together_is_explained(tmp_path: Path) -> None:
    for changed, problem in (
        ({"offload": True}, "set `zero` to 1, 2 or 3"),
        ({"lora": {}, "freeze": ["language"]}, "take it out of `freeze`"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "stages named twice: a"),
        (
            {"stages": [{"name": "a", "freeze": ["vision", "connector", "language"]}]},
            "stage a: every",
        ),
        ({"stages": [{"name": "a", "lora": {}}], "freeze": ["language"]}, "stage a: LoRA"),
        ({"stages": [{"name": "../a"}]}, "should match pattern"),
    ):
        with pytest.raises(ValueError, match=problem):
            RunConfig.model_validate(values(**changed))
    tiny().save(tmp_path / "model")
    file = tmp_path / "model/connector.safetensors"
    with pytest.raises(UserError, match=r"first.weight: \[32, 64\] there, \[32, 16\] here"):
        load_connector(_narrow(), file)
    with pytest.raises(UserError, match="is not there"):
        load_connector(_narrow(), tmp_path / "none")


def _narrow() -> torch.nn.Module:
    from model.connector.build import build_connector
    from model.connector.config import MLP

    return build_connector(MLP(), vision=16, language=32)


def test_settings_that_came_later_leave_older_runs_theirs() -> None:
    assert not {"lora", "weighting", "connector_from"} & set(
        RunConfig.model_validate(values()).identity()
    )
    assert RunConfig.model_validate(values(weighting="sqrt")).identity()["weighting"] == "sqrt"
