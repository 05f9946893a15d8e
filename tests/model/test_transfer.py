"""VPGTrans: a connector carried over to another language model, by the words that both know."""

from pathlib import Path

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, models

from catalog.errors import UserError
from model import transfer
from model.config import RunConfig, shipped_runs
from model.train import train
from model.transfer import Carried, converter
from model.vlm import CuveeModel
from pipeline.plan import Plan
from tests.model.models import LANGUAGE, batch_of, sample
from tests.model.runs import config, make_plan

QUIET = Console(quiet=True)
WIDE = {"config": {**LANGUAGE, "hidden_size": 48, "intermediate_size": 96}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    make_plan(folder)
    train(config(folder, "small", steps=3), console=QUIET)
    return folder


def moved(folder: Path, output: str, run: str, **changed: object) -> RunConfig:
    """Return a run with the eyes of another, and their connector."""
    eyes = {"path": folder / run / "model/vision"}
    return config(folder, output, steps=3, vision=eyes, connector_from=folder / run, **changed)


def build(run: RunConfig) -> CuveeModel:
    from model.train import _build

    return _build(run, Plan.open(run.catalog)).eval()


def test_carried_to_the_same_language_model_it_says_the_same(folder: Path) -> None:
    small = CuveeModel.load(folder / "small/model").eval()
    same = {"path": folder / "small/model/language"}
    model = build(moved(folder, "same", "small", language=same))
    batch = batch_of([[sample(9, 1, 0), sample(5, 2, 1)]], 40)
    assert isinstance(model.connector, Carried)
    assert torch.allclose(model.connector.words.weight, torch.eye(32), atol=0.05)
    assert model(batch).item() == pytest.approx(small(batch).item(), rel=1e-2)


def test_carried_to_another_width_and_on_to_a_third(folder: Path) -> None:
    wide = moved(
        folder,
        "wide",
        "small",
        language=WIDE,
        freeze=["language"],
        optim={"lr": 1e-3},
        stages=[
            {"name": "warm", "freeze": ["vision", "language"], "optim": {"lr": 5e-3}, "steps": 2},
            {"name": "all"},
        ],
    )
    train(wide, console=QUIET)
    warm, model = (
        CuveeModel.load(stage.output / "model") for stage in (wide.unfold()[0], wide.unfold()[1])
    )
    small = CuveeModel.load(folder / "small/model")
    assert isinstance(model.connector, Carried)
    assert (model.connector.inner, model.connector.words.out_features) == (32, 48)
    assert all(
        torch.equal(value, small.vision.state_dict()[name])
        for name, value in warm.vision.state_dict().items()
    )
    began, ended = (m.connector.state_dict() for m in (warm, model))
    assert all(not torch.equal(value, ended[name]) for name, value in began.items())
    # Two linear layers of two moves are one.
    third = build(moved(folder, "third", "wide", language={"config": LANGUAGE}))
    assert isinstance(third.connector, Carried)
    assert (third.connector.inner, third.connector.words.out_features) == (32, 32)
    ids = list(range(300))
    weight, bias = converter(
        *(m.language.get_input_embeddings().weight[ids].detach() for m in (model, third))
    )
    patches = torch.randn(2, 16, 16)
    expected = model.connector(patches) @ weight.T + bias
    assert torch.allclose(third.connector(patches), expected, atol=0.1)


def test_what_cannot_be_carried_over_is_explained(folder: Path, tmp_path: Path) -> None:
    run = moved(folder, "none", "small", language=WIDE)
    with pytest.raises(UserError, match="no trained model there"):
        build(run.model_copy(update={"connector_from": tmp_path}))
    with pytest.raises(UserError, match=r"first.bias: \[32\] there, unknown here"):
        build(moved(folder, "other", "small", connector={"kind": "linear", "merge": 2}))
    foreign = tmp_path / "tok"
    foreign.mkdir()
    Tokenizer(models.WordLevel({"nobody": 0, "says": 1}, "nobody")).save(
        str(foreign / "tokenizer.json")
    )
    model = build(run)
    with pytest.raises(UserError, match="its tokenizer shares no word with"):
        transfer.start_connector(model.connector, folder / "small", model.language, foreign)


@pytest.mark.parametrize("name", shipped_runs())
def test_shipped_runs_are_true(name: str) -> None:
    run = RunConfig.load(shipped_runs()[name])
    assert len(run.recipes) >= 1
    stages = run.unfold()
    assert len({stage.output for stage in stages}) == len(stages) == 2
    assert stages[0].freeze == ("vision", "language")
    assert stages[0].optim.lr > stages[1].optim.lr
