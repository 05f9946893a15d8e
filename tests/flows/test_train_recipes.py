"""Runs whose recipes are planned when they begin: stage by stage, and once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from catalog.errors import UserError
from flows.train import plan_recipes, run_train
from model.config import RunConfig
from model.train import train
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.plan import Plan
from tests.flows.test_cli import cuvee
from tests.model.models import values
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

QUIET = Console(quiet=True)


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def recipe(source: str, capacity: int, **image: int) -> dict[str, Any]:
    return {
        "name": source,
        "budget": {"epochs": 1},
        "sources": [{"source": source}],
        "encoder": {"tokenizer": "tok"},
        "image": {"size": 16, "tokens": 4, **image},
        "packing": {"tokens": capacity, "packs_per_step": 2},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ingest(
        Job(source="vqav2", root=write_vqav2(tmp_path / "vqav2", questions=12)),
        tmp_path / "catalog",
    )
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca", 8)), tmp_path / "catalog")
    make_tokenizer(tmp_path / "tok")
    write(tmp_path / "pictures.yaml", recipe("vqav2", 48))
    write(tmp_path / "finer.yaml", recipe("vqav2", 96, size=32, tokens=16))
    return tmp_path


def test_each_stage_plans_its_recipe_and_keeps_what_it_began_with(folder: Path) -> None:
    stages = [
        {
            "name": "warm",
            "recipe": "pictures.yaml",
            "freeze": ["vision", "language"],
            "optim": {"lr": 1e-2},
            "steps": 2,
        },
        {"name": "finer", "recipe": "finer.yaml", "optim": {"groups": {"vision": 1e-4}}},
        {"name": "again", "optim": {"clip": 0.5}},
    ]
    run = write(
        folder / "run.yaml",
        values(recipe="pictures.yaml", stages=stages, optim={"warmup": 0.25, "betas": [0.9, 0.98]}),
    )
    assert run_train(run, QUIET) == 0
    warm, finer, again = RunConfig.load(run).unfold()
    assert (warm.optim.lr, warm.optim.warmup, warm.optim.betas) == (1e-2, 0.25, (0.9, 0.98))
    assert (finer.optim.groups, finer.optim.warmup) == ({"vision": 1e-4}, 0.25)
    begun = [json.loads((s.output / "run.json").read_text())["plan"] for s in (warm, finer, again)]
    headers = [Plan.open(folder / "catalog", plan).header["recipe"] for plan in begun]
    assert [header["image"]["size"] for header in headers] == [16, 32, 16]
    assert begun[0] == begun[2] != begun[1]
    # More samples would give other plans; what has begun keeps its own.
    ingest(Job(source="vqav2", root=write_vqav2(folder / "more", questions=30)), folder / "catalog")
    kept = plan_recipes(RunConfig.load(run), QUIET)
    assert [stage.plan for stage in kept.stages] == begun
    fresh = RunConfig.load(run).model_copy(update={"output": folder / "fresh"})
    assert not {stage.plan for stage in plan_recipes(fresh, QUIET).stages} & set(begun)
    write(folder / "pictures.yaml", recipe("vqav2", 64))
    changed = plan_recipes(RunConfig.load(run), QUIET)
    with pytest.raises(UserError, match="holds a run with another plan"):
        train(changed, console=QUIET)


def test_recipes_are_planned_by_one_process_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunConfig.load(write(folder / "run.yaml", values(recipe="pictures.yaml")))
    with pytest.raises(UserError, match=r"pictures.yaml is not planned"):
        train(run, console=QUIET)
    with pytest.raises(UserError, match="give either `plan` or `recipe`"):
        RunConfig.load(write(folder / "both.yaml", values(recipe="pictures.yaml", plan="ab")))
    planned = plan_recipes(run, QUIET)
    assert planned.recipe is None
    assert Plan.open(folder / "catalog", planned.plan).steps > 2
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="processes that a launcher started do not plan"):
        plan_recipes(run, QUIET)


def test_published_runs_are_shown() -> None:
    said = cuvee("train", "--show", "vpgtrans")
    assert RunConfig.model_validate(yaml.safe_load(said)).stages[0].name == "warm-up"
    assert "one of llava-1.5, vpgtrans" in cuvee("train", "--show", "none", code=1)
    assert "cuvee train RUN.yaml" in cuvee("train", code=1)
