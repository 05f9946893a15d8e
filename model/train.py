"""A plan and a model -> a trained model; stopped anywhere, it goes on from there.

`python -m model.train RUN.yaml` is one process of a run; `cuvee train` starts them all.
"""

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console

from catalog.errors import CuveeError, UserError
from model import checkpoint
from model.config import RunConfig
from model.engine import Engine, build_engine
from model.language import vocabulary_of
from model.launch import end_with_launcher
from model.loss import targets, weights
from model.memory import foretell, load_of
from model.processes import alone, joined
from model.progress import Metrics, Recorder
from model.throughput import Meter, connector_cost, fine_cost, write
from model.vlm import CuveeModel
from pipeline.batch import Batch
from pipeline.loader import PlanLoader
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy

OnStep = Callable[[Metrics], None]


def train(config: RunConfig, on_step: OnStep | None = None, console: Console | None = None) -> Path:
    """Train, or go on training, or say that all is done; return the folder of the model.

    A run in stages trains them one after the other; those that are done are passed over.

    Args:
        config: the run.
        on_step: called on rank 0 with the metrics of each step.
        console: where rank 0 tells of the run.

    Raises:
        UserError: the run does not fit its plan, its catalog or what its folder holds.
    """
    if config.stages:
        # Joined once: who joins again may meet a process that has not left yet.
        with joined():
            return [train(stage, on_step, console) for stage in config.unfold()][-1]
    console = console or Console()
    if config.recipe is not None:
        raise UserError(
            f"{config.recipe} is not planned",
            fix="`cuvee train` plans it, in one process; or `cuvee plan` it, and name the plan",
        )
    plan = Plan.open(config.catalog, config.plan)
    steps = config.steps or plan.steps
    if steps > plan.steps:
        raise UserError(
            f"{steps} steps wanted, the plan has {plan.steps}",
            fix="lower `steps`, or raise the recipe's budget and plan again",
        )
    identity = {**config.identity(), "plan": plan.id, "steps": steps}
    _check(config.output, identity)
    final = config.output / "model"
    if (final / "cuvee.json").exists():
        if int(os.environ.get("RANK", "0")) == 0:
            console.print(f"finished before: {steps} steps, model in {final}", soft_wrap=True)
        return final
    with joined() as (rank, ranks), alone(config.output, rank):
        if rank == 0:
            _keep(config.output / "run.yaml", config.dump())
            _keep(config.output / "run.json", json.dumps(identity))
        _run(
            config, plan, steps, rank, ranks, on_step, console if rank == 0 else Console(quiet=True)
        )
        if rank == 0:
            _finish(config, plan, final)
            console.print(f"done: {steps} steps, model in {final}", soft_wrap=True)
    return final


def _run(
    config: RunConfig,
    plan: Plan,
    steps: int,
    rank: int,
    ranks: int,
    on_step: OnStep | None,
    console: Console,
) -> None:
    folder = config.output / "checkpoints"
    found = checkpoint.latest(folder)
    start = int(checkpoint.read_state(found)["step"]) if found else 0
    loader = PlanLoader(
        plan,
        catalog=config.catalog,
        rank=rank,
        world_size=ranks,
        start_step=start,
        workers=config.workers,
        verify=config.verify,
        on_damage=config.on_damage,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    meter = Meter(config, ranks, device)
    engine = _engine(config, plan, ranks)
    # A generator of random numbers a step and rank: nothing of it needs to be kept.
    seeding = f"{config.seed}/{rank}"
    if found:
        console.print(f"going on from step {start} of {steps}", highlight=False)
        pieces = -(-plan.packs_per_step // ranks // config.micro_batch)
        _update(engine, [_nothing(plan)] * pieces, 1, 0.0)
        checkpoint.restore(engine, found)
    elif rank == 0:
        count = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
        console.print(
            f"{count:,} parameters, {steps} steps of {plan.packs_per_step} packs, {ranks} "
            f"process{'es' if ranks > 1 else ''} on {engine.device.type}; connector "
            f"{config.connector.kind}: {connector_cost(engine.module)}{fine_cost(engine.module)}",
            highlight=False,
        )
    if start >= steps:
        return
    foretold = foretell(engine.module, config, ranks, load_of(plan, config, ranks))
    console.print(f"memory foretold: {foretold}", highlight=False)
    meter.start(engine.module, foretold, resumed=found is not None)
    recorder = (
        Recorder(config.output, start=start, steps=steps, console=console) if not rank else None
    )
    with recorder or nullcontext():
        batches = iter(loader)
        began, waited, replaced = perf_counter(), 0.0, 0
        for step in range(start, steps):
            batch = next(batches)
            assert batch.step == step
            digest = hashlib.sha256(f"{seeding}/{step}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:7], "big"))
            scale = schedule(step, steps, warmup=config.optim.warmup, floor=config.optim.floor)
            meter.saw(batch)
            divisor = _divisor(batch, config, ranks, engine.device)
            loss = _update(engine, split(batch, config.micro_batch), divisor, scale)
            tokens = float((batch.segments > 0).sum())
            stall, waited = loader.report.stall - waited, loader.report.stall
            damaged, replaced = loader.report.damaged - replaced, loader.report.damaged
            total = torch.tensor(
                [loss, tokens, batch.samples, batch.pixels.numel() // 3, stall, damaged],
                dtype=torch.float64,
                device=engine.device,
            )
            if ranks > 1:
                torch.distributed.all_reduce(total)
            loss, tokens, samples, pixels, stall, damaged = total.tolist()
            if not math.isfinite(loss):
                raise CuveeError(
                    f"step {step}: the loss is {loss}\n"
                    f"Fix: lower the learning rate; `cuvee trace` shows the samples of this step"
                )
            now = perf_counter()
            seconds, began = now - began, now
            meter.add(
                tokens=tokens,
                samples=samples,
                tiles=pixels / engine.module.side**2,
                stall=stall,
                seconds=seconds,
            )
            if recorder:
                metrics = {
                    "step": step,
                    "loss": loss / divisor,
                    "lr": config.optim.lr * scale,
                    "grad_norm": engine.grad_norm,
                    "tokens_per_second": tokens / seconds,
                    "tokens": tokens,
                    "loss_tokens": batch.loss_tokens,
                    "samples": samples,
                    "samples_per_second": samples / seconds,
                    "pixels_per_second": pixels / seconds,
                    "stall": min(1.0, stall / ranks / seconds),
                    "ready": loader.report.depth,
                    "damaged": damaged,
                    "seconds": seconds,
                    "steps_left": steps - step - 1,
                }
                recorder.record(metrics)
                if on_step:
                    on_step(metrics)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == steps:
                state = {"step": step + 1, "plan": plan.id}
                checkpoint.save(engine, folder, state, config.keep)
    if recorder:
        console.print(write(config.output, meter.report(start, steps - start)), highlight=False)


def _engine(config: RunConfig, plan: Plan, ranks: int) -> Engine:
    """Return the engine around a run's model."""
    from transformers.utils import logging

    # Bars for each part of a model would bury the run's own lines.
    bars: Any = logging.disable_progress_bar
    bars()
    model = _build(config, plan)
    model.train()
    return build_engine(config, model, plan.packs_per_step // ranks)


def _build(config: RunConfig, plan: Plan) -> CuveeModel:
    policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
    tokenizer = _tokenizer(plan)
    words = vocabulary_of(tokenizer)
    return CuveeModel.build(config, policy, words, tokenizer, located=plan.located)


def _tokenizer(plan: Plan) -> Path:
    """Return the tokenizer's folder, or what the catalog keeps of it where that is gone."""
    folder = Path(plan.header["tokenizer"])
    return folder if folder.is_dir() else plan.tokenizer


def _update(engine: Engine, batches: list[Batch], divisor: float, scale: float) -> float:
    """Make one optimizer step of a rank's micro-batches; return the sum of their losses.

    The loss is a sum over tokens divided by what the whole step weighs, so that neither ranks nor
    micro-batches change it.
    """
    for group in engine.groups:
        group["lr"] = group["peak"] * scale
    return engine.update(batches, 1 / divisor)


def _divisor(batch: Batch, config: RunConfig, ranks: int, device: torch.device) -> float:
    """Return what the learnt tokens of the whole step weigh together, over all ranks."""
    if config.weighting == "token":
        return float(max(batch.loss_tokens, 1))
    following = targets(batch.labels, batch.segments)
    total = weights(following, batch.segments, config.weighting).double().sum().to(device)
    if ranks > 1:
        torch.distributed.all_reduce(total)
    return total.item() or 1.0


def schedule(step: int, steps: int, *, warmup: float, floor: float) -> float:
    """Return the share of the highest learning rate: linear up, then half a cosine down.

    >>> [round(schedule(step, 8, warmup=0.25, floor=0.0), 2) for step in (0, 1, 2, 5)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    way = (step - rising) / max(1, steps - rising)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * way))


def split(batch: Batch, rows: int) -> list[Batch]:
    """Cut a batch into micro-batches of at most `rows` rows, each with its pictures."""
    if len(batch.tokens) <= rows:
        return [batch]
    return [batch.rows(start, start + rows) for start in range(0, len(batch.tokens), rows)]


def _nothing(plan: Plan) -> Batch:
    """Return a batch of padding."""
    side = int(plan.header["recipe"]["image"]["size"])
    zeros = torch.zeros((1, 2), dtype=torch.int64)
    return Batch(
        tokens=zeros,
        labels=zeros - 100,
        positions=zeros,
        segments=zeros.int(),
        pixels=torch.zeros((0, 3, side, side)),
        step=0,
        packs=(0,),
        loss_tokens=0,
        samples=0,
    )


def _check(folder: Path, identity: dict[str, Any]) -> None:
    """Refuse to go on with another run than the folder holds."""
    if not (folder / "run.json").exists():
        return
    before = json.loads((folder / "run.json").read_text())
    now = json.loads(json.dumps(identity))
    if changed := sorted(name for name in now if now[name] != before.get(name)):
        lines = [f"{name}: {before.get(name)} before, now {now[name]}" for name in changed]
        raise UserError(
            f"{folder} holds a run with another {', '.join(changed)}\n" + "\n".join(lines),
            fix="choose another `output`, or remove the folder to start anew",
        )


def _keep(path: Path, text: str) -> None:
    staged = path.with_name(f".{path.name}")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


def _finish(config: RunConfig, plan: Plan, final: Path) -> None:
    """Write the model from the last checkpoint, whole on one rank, and its tokenizer beside it."""
    found = checkpoint.latest(config.output / "checkpoints")
    assert found is not None
    tokenizer = _tokenizer(plan)
    model = _build(config, plan)
    checkpoint.load_weights(model, found)
    staged = final.with_name(".model")
    shutil.rmtree(staged, ignore_errors=True)
    model.save(staged)
    shutil.copytree(tokenizer, staged / "tokenizer")
    shutil.rmtree(final, ignore_errors=True)
    staged.rename(final)


def main(arguments: list[str]) -> int:
    """Run one process of a run; return its exit code."""
    end_with_launcher()
    try:
        train(RunConfig.load(Path(arguments[0])))
    except CuveeError as error:
        print(f"cuvee: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cuvee: {error}\nFix: see to the path or the space on disk", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
