"""Training: the same losses however the work is spread, and as if it had never been stopped."""

import fcntl
import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from catalog.errors import CuveeError, UserError
from model import checkpoint
from model.config import RunConfig
from model.engine import parameter_groups
from model.language import vocabulary_of
from model.progress import Metrics, forget
from model.train import split, train
from model.vlm import CuveeModel
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from tests.model.models import LANGUAGE, batch_of, sample, values
from tests.model.runs import config, make_plan, metrics, start

STOP = 5
"""Step after which runs are stopped; checkpoints are made every second step."""


class Stopped(Exception):
    """What stops a run in these tests."""


def stop(values: Metrics) -> None:
    if values["step"] == STOP:
        raise Stopped


def losses(run: RunConfig) -> list[float]:
    """Return the loss of each step, after a check that each step stands there once."""
    found = metrics(run)
    assert [int(line["step"]) for line in found] == list(range(len(found)))
    return [line["loss"] for line in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    make_plan(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> RunConfig:
    """A run that was never stopped."""
    run = config(folder, "whole")
    train(run, console=Console(quiet=True))
    return run


def test_a_run_learns_and_leaves_what_it_promises(whole: RunConfig) -> None:
    found = losses(whole)
    plan = Plan.open(whole.catalog)
    assert len(found) == plan.steps > STOP + 2
    assert found[-1] < found[0] - 0.1
    for line, step in zip(metrics(whole), range(plan.steps), strict=True):
        packs = plan.step(step).packs
        assert line["tokens"] == sum(pack.tokens for pack in packs)
        assert line["loss_tokens"] == plan.step(step).loss_tokens
        assert line["samples"] == sum(len(pack.rows) for pack in packs)
        assert 0 <= line["stall"] <= 1
        assert line["samples_per_second"] > 0
        assert line["ready"] >= 0 == line["damaged"]
    assert RunConfig.load(whole.output / "run.yaml") == whole
    assert list((whole.output / "tensorboard").iterdir())
    kept = sorted(path.name for path in (whole.output / "checkpoints").glob("step-*"))
    assert len(kept) == whole.keep
    assert kept[-1] == f"step-{plan.steps:08}"
    model = CuveeModel.load(whole.output / "model")
    assert model.language.get_input_embeddings().num_embeddings > 300
    assert (whole.output / "model/tokenizer/tokenizer.json").is_file()


def test_a_finished_run_is_not_done_again(whole: RunConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.output.rglob("*")}
    console = Console(record=True, quiet=False, width=300)
    train(whole, console=console)
    assert "finished before" in console.export_text()
    assert {path: path.stat().st_mtime_ns for path in whole.output.rglob("*")} == before


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_stopped_and_continued_under_any_zero_stage(
    folder: Path, whole: RunConfig, zero: int
) -> None:
    run = config(folder, f"zero{zero}", zero=zero, micro_batch=3, gradient_checkpointing=zero > 1)
    with pytest.raises(Stopped):
        train(run, stop, Console(quiet=True))
    assert len(losses(run)) == STOP + 1
    train(run, console=Console(quiet=True))
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    one, other = CuveeModel.load(run.output / "model"), CuveeModel.load(whole.output / "model")
    for name, value in one.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], atol=1e-3), name


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_continued_in_bf16_bit_for_bit(folder: Path, whole: RunConfig, zero: int) -> None:
    run = config(folder, f"bf16-{zero}", zero=zero, precision="bf16", micro_batch=4)
    train(run, console=Console(quiet=True))
    assert losses(run) == pytest.approx(losses(whole), rel=1e-2)
    again = run.model_copy(update={"output": folder / f"bf16-{zero}-stopped"})
    with pytest.raises(Stopped):
        train(again, stop, Console(quiet=True))
    train(again, console=Console(quiet=True))
    assert losses(again) == losses(run)


def test_two_processes_killed_and_continued_by_two_or_by_one(
    folder: Path, whole: RunConfig
) -> None:
    run = config(folder, "two", processes=2, zero=2)
    # Ends its own launcher as `kill -9` would, in the middle of a step.
    code = (
        "import threading, time\n"
        "def watch():\n"
        "    file = config.output / 'metrics.jsonl'\n"
        f"    while not file.exists() or file.read_text().count('\\n') < {STOP}: time.sleep(0.002)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=watch).start()\n"
        "launch(config)\n"
    )
    process = start(run, code)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == -9, output + errors
    with (run.output / ".lock").open("w") as lock:  # free as soon as rank 0 is gone
        deadline = time.monotonic() + 20
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "a process outlived its launcher"
                time.sleep(0.05)
    assert not (run.output / "model").exists()
    alone = config(folder, "one", processes=1, zero=3)
    shutil.copytree(run.output, alone.output)

    train(alone, console=Console(quiet=True))
    assert losses(alone) == pytest.approx(losses(whole), rel=1e-5)

    process = start(run, "sys.exit(launch(config))\n")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "going on from step" in output
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)


def test_one_process_that_fails_ends_them_all(folder: Path) -> None:
    run = config(folder, "fails", processes=3)
    process = start(run, "sys.exit(launch(config))\n")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "4 packs a step do not divide among 3 ranks" in errors
    assert "Traceback" not in errors


def test_frozen_parts_stay_and_the_rest_has_its_own_rate(folder: Path) -> None:
    run = config(
        folder,
        "frozen",
        zero=3,
        steps=3,
        freeze=["vision", "language"],
        optim={"lr": 1e-3, "groups": {"connector": 1e-2}, "weight_decay": 0.1},
    )
    train(run, console=Console(quiet=True))
    trained = CuveeModel.load(run.output / "model").state_dict()
    train(run.model_copy(update={"output": folder / "frozen2"}), console=Console(quiet=True))
    first = CuveeModel.load(folder / "frozen2/model").state_dict()
    assert all(torch.equal(value, first[name]) for name, value in trained.items())
    plan = Plan.open(folder / "catalog")
    policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
    fresh = CuveeModel.build(run, policy, vocabulary_of(Path(plan.header["tokenizer"])))
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, trained[name]) == (not name.startswith("connector")), name
    groups = parameter_groups(fresh, run)
    assert {(group["peak"], group["weight_decay"]) for group in groups} == {(1e-2, 0.1), (1e-2, 0)}


def test_what_cannot_be_continued_is_explained(folder: Path, whole: RunConfig) -> None:
    quiet = Console(quiet=True)
    with pytest.raises(UserError, match="holds a run with another seed\nseed: 0 before, now 7"):
        train(whole.model_copy(update={"seed": 7}), console=quiet)
    with pytest.raises(UserError, match="1000 steps wanted, the plan has"):
        train(config(folder, "long", steps=1000), console=quiet)
    with pytest.raises(UserError, match="0 plans named ffff"):
        train(config(folder, "other", plan="ffff"), console=quiet)
    gone = folder / "gone"
    shutil.copytree(whole.output / "checkpoints", gone)
    shutil.rmtree(gone / (gone / "latest").read_text())
    with pytest.raises(UserError, match="is gone; there are: step-"):
        checkpoint.latest(gone)
    with pytest.raises(CuveeError, match=r"step \d: the loss is (nan|inf)"):
        train(config(folder, "wild", optim={"lr": 1e30, "clip": 0}), console=quiet)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    folder: Path, whole: RunConfig
) -> None:
    run = config(folder, "halfway")
    with pytest.raises(Stopped):
        train(run, stop, Console(quiet=True))
    found = checkpoint.latest(run.output / "checkpoints")
    assert found is not None
    half = found.with_name(f".step-{STOP + 1:08}")
    half.mkdir()
    (half / "00000.safetensors").write_bytes(b"half")
    with (run.output / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 6, "lo')
    train(run, console=Console(quiet=True))
    assert losses(run) == losses(whole)
    assert not list((run.output / "checkpoints").glob(".step-*"))


@given(st.lists(st.integers(0, 30)), st.integers(0, 30))
def test_only_the_steps_to_be_done_again_are_forgotten(steps: list[int], first: int) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "metrics.jsonl")
        file.write_text("".join(json.dumps({"step": step}) + "\n" for step in steps) + '{"ste')
        forget(file, first)
        kept = [json.loads(line)["step"] for line in file.read_text().splitlines()]
        assert kept == [step for step in steps if step < first]


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=6), st.integers(1, 6))
def test_micro_batches_hold_the_rows_with_their_pictures(rows: list[list[int]], size: int) -> None:
    samples = [
        [sample(5, pictures, 10 * row + place) for place, pictures in enumerate(shapes)]
        for row, shapes in enumerate(rows)
    ]
    pieces = split(batch_of(samples, 48), size)
    assert len(pieces) == -(-len(rows) // size)
    for number, piece in enumerate(pieces):
        expected = batch_of(samples[number * size : (number + 1) * size], 48)
        for name in ("tokens", "labels", "positions", "segments", "pixels"):
            assert torch.equal(getattr(piece, name), getattr(expected, name)), name


def test_a_run_file_is_checked_with_its_lines(tmp_path: Path) -> None:
    text = "catalog: c\noutput: o\nvision: {config: {}}\nlanguage: {path: lm}\nzero: 4\n"
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UserError, match=r"run.yaml, line 5, field zero"):
        RunConfig.load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(text.replace("zero: 4", "optim: {groups: {vison: 1.0}}"))
    with pytest.raises(UserError, match=r"line 5, field optim.groups.vison"):
        RunConfig.load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(text.replace("zero: 4", ""))
    run = RunConfig.load(tmp_path / "run.yaml")
    assert run.catalog == tmp_path / "c"
    assert run.language.path == tmp_path / "lm"
    (tmp_path / "run.yaml").write_text(run.dump())
    assert RunConfig.load(tmp_path / "run.yaml") == run
    with pytest.raises(ValueError, match="everything is frozen"):
        RunConfig.model_validate(values(freeze=["vision", "connector", "language"]))
    with pytest.raises(ValueError, match="give either"):
        RunConfig.model_validate(values(language={"config": LANGUAGE, "path": "x"}))
