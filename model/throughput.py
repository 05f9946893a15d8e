"""How well a run used its machine: rates, model FLOPs utilisation, memory foretold and seen.

Utilisation as PaLM counts it, https://arxiv.org/abs/2204.02311, appendix B: only what forward and
backward need, recomputation not counted, against the matrix products that this machine really does.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from model.config import RunConfig
from model.connector.build import Cost, cost
from model.fine import branch_cost
from model.memory import Memory, held, peak, size_of
from pipeline.batch import Batch

SIDE, ROUNDS = 1024, 8
"""Matrices that measure the ceiling, and how often they are multiplied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a run measured between its start, or its continuation, and its end."""

    first_step: int
    steps: int
    seconds: float
    tokens_per_second: float
    samples_per_second: float
    tiles_per_second: float
    data_wait: float
    """Share of the time that the trainer waited for batches."""
    model_flops: float
    """Operations of all steps, over all ranks."""
    ceiling: float
    """Operations a second of matrix products in this precision, one rank."""
    utilisation: float
    """Model FLOPs a second and rank, as a share of the ceiling."""
    memory_predicted: int
    """Bytes of weights, gradients, optimizer and activations, one rank."""
    memory_measured: int
    """Bytes: the device's peak; on CPU, by how much the process grew beyond its weights, and those."""


class Meter:
    """Adds up the work of a run's steps on one rank."""

    def __init__(self, config: RunConfig, ranks: int, device: torch.device) -> None:
        self._config, self._ranks, self._device = config, ranks, device
        self._flops = 0.0
        self._sums = dict.fromkeys(("tokens", "samples", "tiles", "stall", "seconds"), 0.0)

    def start(self, model: Any, foretold: Memory, *, resumed: bool) -> None:
        """Begin with a model that is there; what else is in use by now is not the run's."""
        self.model, self._foretold = model, foretold
        # What is there: weights; under ZeRO their fp32 copies, a third of its state; moments read back.
        state = foretold.optimizer if resumed else foretold.optimizer // 3 * (self._config.zero > 0)
        self._held = max(0, held(self._device) - foretold.weights - state)

    def saw(self, batch: Batch) -> None:
        """Count the operations of a rank's batch."""
        self._flops += step_flops(self.model, batch.segments, len(batch.pixels))

    def add(self, **values: float) -> None:
        """Add a step's totals over all ranks."""
        for name, value in values.items():
            self._sums[name] += value

    def report(self, first_step: int, steps: int) -> Throughput:
        """Return what was measured since the meter was made."""
        found, seconds = self._sums, max(self._sums["seconds"], 1e-9)
        ceiling = matmul_rate(self._device, self._config.precision)
        flops = self._flops * self._ranks
        return Throughput(
            first_step=first_step,
            steps=steps,
            seconds=seconds,
            tokens_per_second=found["tokens"] / seconds,
            samples_per_second=found["samples"] / seconds,
            tiles_per_second=found["tiles"] / seconds,
            data_wait=min(1.0, found["stall"] / self._ranks / seconds),
            model_flops=flops,
            ceiling=ceiling,
            utilisation=self._flops / seconds / ceiling,
            memory_predicted=self._foretold.total,
            memory_measured=max(0, peak(self._device) - self._held),
        )


def write(folder: Path, found: Throughput) -> str:
    """Append a line to `throughput.jsonl`; return it in words."""
    with (folder / "throughput.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(found)) + "\n")
    return (
        f"{found.tokens_per_second:,.0f} tokens/s, {found.samples_per_second:,.1f} samples/s, "
        f"{found.tiles_per_second:,.1f} tiles/s, {found.data_wait:.1%} waiting for data; "
        f"{found.utilisation:.1%} of {found.ceiling / 1e9:,.0f} GFLOP/s of matrix products; "
        f"memory {found.memory_predicted / 2**20:,.0f} MiB foretold, "
        f"{found.memory_measured / 2**20:,.0f} MiB seen"
    )


def connector_cost(model: Any) -> Cost:
    """Return what a model's connector costs on a tile."""
    return cost(
        model.connector.config,
        vision=model.vision.width,
        language=int(model.language.config.hidden_size),
        side=model.vision.patches(model.side),
        inner=getattr(model.connector, "inner", None),
    )


def fine_cost(model: Any) -> str:
    """Return what a high-resolution branch costs on a picture of whose tokens all ask; or nothing."""
    if model.fine is None:
        return ""
    cost = branch_cost(model.fine, connector_cost(model).tokens)
    return f"; fine: {cost.parameters:,} parameters, {cost.flops / 1e9:,.4g} GFLOP a tile"


def step_flops(model: Any, segments: Tensor, tiles: int) -> float:
    """Return the operations of forward and backward over rows with these samples and tiles.

    Where a part is frozen, its weights need no gradient; its inputs do if a part before it learns.
    """
    lengths = torch.cat([torch.bincount(row)[1:] for row in segments.long()]).double()
    text, tower = model.language.config, model.vision.tower.config
    patches = model.vision.patches(model.side) ** 2 + int(model.vision.has_class_token)
    head = model.language.get_output_embeddings().weight
    inside = _weights(model.language, without=model.language.get_input_embeddings().weight)
    if head is model.language.get_input_embeddings().weight:
        inside += size_of(head)
    # Two matrix products of n x n x width a layer, causal: a half of each.
    wide = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = 2 * text.num_hidden_layers * wide * text.num_attention_heads
    looking = 4 * tower.num_hidden_layers * tower.hidden_size * patches**2
    # Matrix products with weights, and products of activations with each other.
    forward = {
        "vision": (tiles * 2.0 * _weights(model.vision) * patches, tiles * looking),
        "connector": (tiles * connector_cost(model).flops, 0),
        "language": (
            2 * inside * float(lengths.sum()),
            attention * float((lengths**2).sum()),
        ),
    }
    if model.fine is not None:
        # About: the pictures, and on average as many tokens a picture as there are.
        asking = round(float(lengths.sum()) / max(1, tiles))
        looks = tiles * float(branch_cost(model.fine, asking).flops)
        forward = {**forward, "fine": (looks, 0.0), "language": forward.pop("language")}
    total, before = 0.0, False
    for part, (products, mixing) in forward.items():
        # Gradients of the weights that learn, and of what runs between them.
        share = _share(getattr(model, part))
        before = before or share > 0
        total += products * (1 + share + before) + mixing * (1 + 2 * before)
    return total


def matmul_rate(device: torch.device, precision: str) -> float:
    """Return the operations a second of square matrix products on a device: the best of a few."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(SIDE, SIDE, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(ROUNDS):
        _wait(device)
        began = perf_counter()
        left @ right
        _wait(device)
        best = min(best, perf_counter() - began)
    return 2 * SIDE**3 / best


def _weights(module: nn.Module, without: Tensor | None = None) -> int:
    """Return the weights of the matrix products, once each."""
    return sum(
        size_of(p)
        for name, p in module.named_parameters()
        if p is not without
        and len(getattr(p, "ds_shape", p.shape)) > 1
        and "position_embedding" not in name
    )


def _share(module: nn.Module) -> float:
    """Return the share of a module's weights that learn."""
    sizes = [(size_of(p), p.requires_grad) for p in module.parameters()]
    return sum(size for size, learns in sizes if learns) / max(1, sum(size for size, _ in sizes))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
