"""Packed rows against padded batches: the same samples, the same model, forward and backward.

    python -m tests.benchmarks.packed RUN [STEPS]

RUN is a finished run; its plan's first steps are trained on twice: as they are packed, and each sample in
a row of its own, as many rows a batch as keep its tokens, padding included, at most those of the packs.
Padded batches come in the plan's order, and sorted by length within a step: what a sampler that groups by
length does at best.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import Tensor

from model.config import RunConfig
from model.vlm import CuveeModel
from pipeline.batch import IGNORE, IMAGE_TOKEN, Batch
from pipeline.loader import PlanLoader
from pipeline.plan import Plan

Sample = tuple[Tensor, Tensor, Tensor]
"""Tokens, labels, pixels."""


def samples_of(batch: Batch, visual: int) -> list[Sample]:
    """Return the samples of packed rows, each with its tiles."""
    found, tile = [], 0
    for row in range(len(batch.tokens)):
        for number in range(1, int(batch.segments[row].max()) + 1):
            place = batch.segments[row] == number
            tokens = batch.tokens[row][place]
            tiles = int((tokens == IMAGE_TOKEN).sum()) // visual
            pixels = batch.pixels[tile : tile + tiles]
            found.append((tokens, batch.labels[row][place], pixels))
            tile += tiles
    return found


def padded(samples: Sequence[Sample], like: Batch) -> Batch:
    """Return one sample a row, filled up to the longest."""
    shape = (len(samples), max(len(tokens) for tokens, _, _ in samples))
    tokens, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE)
    segments = torch.zeros(shape, dtype=torch.int32)
    for row, (ids, learnt, _) in enumerate(samples):
        tokens[row, : len(ids)], labels[row, : len(ids)] = ids, learnt
        segments[row, : len(ids)] = 1
    return dataclasses.replace(
        like,
        tokens=tokens,
        labels=labels,
        positions=torch.arange(shape[1]).expand(shape),
        segments=segments,
        pixels=torch.cat([pixels for _, _, pixels in samples]),
        packs=tuple(range(len(samples))),
        samples=len(samples),
    )


def batches(samples: Sequence[Sample], like: Batch) -> list[Batch]:
    """Cut samples into padded batches of at most the tokens of a packed batch."""
    budget, found, held = like.tokens.numel(), [], list[Sample]()
    for sample in samples:
        longest = max(len(tokens) for tokens, _, _ in (*held, sample))
        if held and longest * (len(held) + 1) > budget:
            found.append(padded(held, like))
            held = []
        held.append(sample)
    return [*found, padded(held, like)]


def cost(model: CuveeModel, work: Sequence[Batch]) -> float:
    """Return the processor seconds of forward and backward."""
    started = process_time()
    for batch in work:
        model(batch).backward()
        model.zero_grad(set_to_none=True)
    return process_time() - started


def main() -> None:
    """Print rates and ratios."""
    torch.set_num_threads(1)
    run, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12
    config = RunConfig.load(run / "run.yaml")
    plan = Plan.open(config.catalog, config.plan)
    model = CuveeModel.load(run / "model").train()
    visual = int(plan.header["recipe"]["image"]["tokens"])
    seconds: dict[str, list[float]] = {"packed": [], "padded": [], "padded, by length": []}
    filled, tokens, samples, losses = dict.fromkeys(seconds, 0), 0, 0, dict.fromkeys(seconds, 0.0)
    for step, packed in zip(range(steps), PlanLoader(plan, catalog=config.catalog), strict=False):
        alone = samples_of(packed, visual)
        work = {
            "packed": [packed],
            "padded": batches(alone, packed),
            "padded, by length": batches(sorted(alone, key=lambda s: len(s[0])), packed),
        }
        tokens += int((packed.segments > 0).sum())
        samples += len(alone)
        for name, found in work.items():
            filled[name] += sum(batch.tokens.numel() for batch in found)
            with torch.no_grad():
                losses[name] += sum(float(model(batch)) for batch in found)
            spent = cost(model, found)
            if step:  # the first warms up
                seconds[name].append(spent)
    print("| batches | tokens that are padding | samples a processor second | ratio | loss |")
    print("| --- | ---: | ---: | ---: | ---: |")
    fastest = median(seconds["packed"])
    for name, taken in seconds.items():
        rate = samples / steps / median(taken)
        print(
            f"| {name} | {1 - tokens / filled[name]:.0%} | {rate:,.0f} | "
            f"{median(taken) / fastest:.2f} | {losses[name]:,.1f} |"
        )


if __name__ == "__main__":
    main()
