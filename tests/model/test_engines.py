"""Engines: DeepSpeed's stages and FSDP2 learn the same on any number of ranks, changed on the way too."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from catalog import Catalog
from model.config import RunConfig
from model.launch import free_port, rank_environment
from model.train import train
from model.vlm import CuveeModel
from pipeline.encode import encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.model.models import SIDE, VISION, VISUAL, values
from tests.model.runs import ROOT, config, make_plan, metrics
from tests.official import write_alpaca
from tests.tokenizer import make_tokenizer

QUIET = Console(quiet=True)
WAYS: tuple[dict[str, object], ...] = (
    {"zero": 0},
    {"zero": 1},
    {"zero": 2},
    {"zero": 3},
    {"engine": "fsdp2"},
)
# Without warm-up and decay the rate does not depend on where a run is told to end.
COMMON = {"optim": {"lr": 3e-3, "warmup": 0, "floor": 1, "weight_decay": 0.1}, "micro_batch": 1}
ENDS = (3, 6, 9)
"""Steps after which the number of ranks changes."""


def name(way: dict[str, object]) -> str:
    return "-".join(map(str, way.values()))


def train_by_two(runs: Sequence[RunConfig], folder: Path) -> None:
    """Train runs one after the other in two real processes."""
    files = []
    for number, run in enumerate(runs):
        files.append(folder / f"asked{number}.yaml")
        files[-1].write_text(run.dump())
    code = (
        "import sys\n"
        "from model.processes import joined\n"
        "from model.train import main\n"
        "with joined():\n"
        "    sys.exit(any(main([file]) for file in sys.argv[1:]))\n"
    )
    port = free_port()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, files)],
            cwd=ROOT,
            env=os.environ | rank_environment(rank, 2, port) | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            said = child.stdout.read()
            assert child.wait(timeout=300) == 0, said
    finally:
        for child in children:
            child.kill()
            child.communicate()


def went_on(before: RunConfig, output: Path, steps: int, **changed: object) -> RunConfig:
    """Return a longer run that finds the checkpoints and metrics of another in its folder."""
    output.mkdir()
    shutil.copytree(before.output / "checkpoints", output / "checkpoints")
    shutil.copy(before.output / "metrics.jsonl", output)
    return before.model_copy(update={"output": output, "steps": steps, **changed})


def losses(run: RunConfig) -> list[float]:
    return [line["loss"] for line in metrics(run)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    make_plan(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> RunConfig:
    """A run of one process that was never stopped."""
    run = config(folder, "whole", steps=ENDS[-1], **COMMON)
    train(run, console=QUIET)
    return run


def test_two_ranks_then_one_then_two_is_as_never_stopped(folder: Path, whole: RunConfig) -> None:
    first = [config(folder, f"{name(way)}-a", steps=ENDS[0], **COMMON, **way) for way in WAYS]
    # Each way, and one that takes another at each change.
    first.append(config(folder, "mixed-a", steps=ENDS[0], **COMMON, zero=2))
    train_by_two(first, folder)
    second = [went_on(run, folder / f"{run.output.name}b", ENDS[1]) for run in first]
    second[-1] = second[-1].model_copy(update={"zero": 0, "engine": "fsdp2"})
    for run in second:
        train(run, console=QUIET)
    third = [went_on(run, folder / f"{run.output.name}c", ENDS[2]) for run in second]
    third[-1] = third[-1].model_copy(update={"zero": 3, "engine": "deepspeed"})
    train_by_two(third, folder)
    expected = losses(whole)
    assert expected[-1] < expected[0] - 0.3
    end = CuveeModel.load(whole.output / "model").state_dict()
    for run in third:
        assert losses(run) == pytest.approx(expected, rel=1e-5), run.output.name
        steps = [line["grad_norm"] for line in metrics(run)]
        assert steps == pytest.approx([line["grad_norm"] for line in metrics(whole)], rel=1e-3)
        for key, value in CuveeModel.load(run.output / "model").state_dict().items():
            assert value.sub(end[key]).abs().max() < 1e-3, (run.output.name, key)


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan with location tokens and a finer look."""
    folder = tmp_path_factory.mktemp("looking")
    root = Path(__file__).parents[1] / "data/refcoco"
    ingest(Job(source="refcoco", root=root), folder / "catalog")
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 10)), folder / "catalog")
    mixture = Mixture.model_validate(
        {
            "name": "look",
            "budget": {"samples": 60},
            "sources": [
                {"source": "refcoco", "weight": 3, "max_epochs": 100},
                {"source": "alpaca", "weight": 1, "max_epochs": 100},
            ],
            "encoder": {"tokenizer": make_tokenizer(folder / "tok"), "boxes": "pix2emb"},
            "image": {"size": SIDE, "tokens": VISUAL, "fine": 32},
            "packing": {"tokens": 128, "packs_per_step": 4},
        }
    )
    encode(Catalog.open(folder / "catalog"), mixture.encoder)
    Plan.build(Catalog.open(folder / "catalog"), mixture)
    return folder


def test_locations_and_a_finer_look_learn_the_same_with_each_engine(looking: Path) -> None:
    parts = {"fine": {"vision": {"config": VISION}, "width": 8, "heads": 2}, **COMMON}
    whole = config(looking, "whole", steps=4, **parts)
    train(whole, console=QUIET)
    first = [config(looking, f"{name(way)}-a", steps=2, **parts, **way) for way in WAYS]
    train_by_two(first, looking)
    second = [went_on(run, looking / f"{run.output.name}b", 4) for run in first]
    for run in second:
        train(run, console=QUIET)
    end = CuveeModel.load(whole.output / "model").state_dict()
    for part in ("fine.", "locations."):
        assert any(key.startswith(part) for key in end)
    for run in second:
        assert losses(run) == pytest.approx(losses(whole), rel=1e-5), run.output.name
        for key, value in CuveeModel.load(run.output / "model").state_dict().items():
            assert value.sub(end[key]).abs().max() < 1e-3, (run.output.name, key)


@pytest.mark.parametrize("freeze", [(), ("vision", "language")])
def test_fsdp2_in_bf16_stays_near_and_goes_on_exactly(
    folder: Path, whole: RunConfig, freeze: tuple[str, ...]
) -> None:
    label = "half" + "".join(freeze)
    half = config(
        folder,
        label,
        steps=ENDS[1],
        **COMMON,
        engine="fsdp2",
        precision="bf16",
        freeze=freeze,
        gradient_checkpointing=not freeze,
    )
    train(half, console=QUIET)
    if not freeze:
        assert losses(half) == pytest.approx(losses(whole)[: ENDS[1]], rel=2e-2)
    short = half.model_copy(update={"output": folder / f"{label}-short", "steps": ENDS[0]})
    train(short, console=QUIET)
    rest = went_on(short, folder / f"{label}-rest", ENDS[1])
    train(rest, console=QUIET)
    assert losses(rest) == losses(half)


def test_zero_is_deepspeeds() -> None:
    with pytest.raises(ValueError, match="leave it out with `engine: fsdp2`"):
        RunConfig.model_validate(values(engine="fsdp2", zero=2))
