"""How well a run used its machine: rates, model FLOPs utilisation, memory foretold and seen.

Utilisation as PaLM counts it, https://arxiv.org/abs/2204.02311, appendix B: only what forward and
backward need, recomputation not counted, against the matrix products that this machine really does.
Activations as Korthikanti et al. count them, https://arxiv.org/abs/2205.05198, section 4, without the
attention matrix, which is never whole in memory.
"""

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from model.config import RunConfig
from model.connector.build import Cost, cost
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
    """Bytes: the device's peak; on CPU, by how much the process grew."""


class Meter:
    """Adds up the work of a run's steps on one rank."""

    def __init__(self, config: RunConfig, ranks: int, device: torch.device) -> None:
        self._config, self._ranks, self._device = config, ranks, device
        self._held = held(device)
        self.model: Any = None
        """Set when it is built; what memory was in use before is not its."""
        self._flops, self._largest = 0.0, 0
        self._sums = dict.fromkeys(("tokens", "samples", "tiles", "stall", "seconds"), 0.0)

    def saw(self, batch: Batch) -> None:
        """Count the operations of a rank's batch."""
        self._flops += step_flops(self.model, batch.segments, len(batch.pixels))
        rows = max(1, min(self._config.micro_batch, len(batch.tokens)))
        tiles = -(-len(batch.pixels) * rows // max(1, len(batch.tokens)))
        learnt = batch.loss_tokens // self._ranks * rows // max(1, len(batch.tokens))
        now = activations(self.model, self._config, rows * batch.tokens.shape[1], tiles, learnt)
        self._largest = max(self._largest, now)

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
            memory_predicted=states(self.model, self._config, self._ranks) + self._largest,
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
        inside += _size(head)
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
    total, before = 0.0, False
    for part, (products, mixing) in forward.items():
        # Gradients of the weights that learn, and of what runs between them.
        share = _share(getattr(model, part))
        before = before or share > 0
        total += products * (1 + share + before) + mixing * (1 + 2 * before)
    return total


def states(model: nn.Module, config: RunConfig, ranks: int) -> int:
    """Return the bytes of weights, gradients and Adam's moments on one rank's device.

    fp32 weights everywhere; with bf16 under ZeRO, 2 bytes for weights and gradients and an fp32 copy
    beside the moments. ZeRO 1 shares the optimizer's state among the ranks, 2 the gradients too, 3 the
    weights too.
    """
    sizes = [(_size(p), p.requires_grad) for p in model.parameters()]
    every, learning = sum(size for size, _ in sizes), sum(s for s, learns in sizes if learns)
    half = config.precision == "bf16" and config.zero > 0
    weights, gradients = (2 * every, 2 * learning) if half else (4 * every, 4 * learning)
    optimizer = (12 if config.zero else 8) * learning
    weights //= ranks if config.zero > 2 else 1
    gradients //= ranks if config.zero > 1 else 1
    optimizer = 0 if config.offload else optimizer // (ranks if config.zero else 1)
    return weights + gradients + optimizer


def activations(model: Any, config: RunConfig, tokens: int, tiles: int, learnt: int) -> int:
    """Return about how many bytes a micro-batch keeps for the backward pass."""
    text, tower = model.language.config, model.vision.tower.config
    patches = tiles * model.vision.patches(model.side) ** 2
    width = 2 if config.precision == "bf16" else 4
    total = 0.0
    for part, places in ((text, tokens), (tower, patches)):
        # 34 bytes a place and feature in half precision, two of them the layer's input.
        layer = 17 * width * places * part.hidden_size
        kept = width * places * part.hidden_size
        deep = part.num_hidden_layers
        total += kept * deep + layer if config.gradient_checkpointing else layer * deep
    # Logits of learnt tokens, their float copy and its gradient.
    logits: int = learnt * int(text.vocab_size) * (width + 8)
    return round(float(total)) + logits


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


def held(device: torch.device) -> int:
    """Return the bytes in use before the model is there; from now on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    return peak(device)


def peak(device: torch.device) -> int:
    """Return the most bytes that were in use: the device's, or the process's on CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _weights(module: nn.Module, without: Tensor | None = None) -> int:
    """Return the weights of the matrix products, once each."""
    return sum(
        _size(p)
        for name, p in module.named_parameters()
        if p is not without
        and len(getattr(p, "ds_shape", p.shape)) > 1
        and "position_embedding" not in name
    )


def _size(parameter: Tensor) -> int:
    # Under ZeRO 3 a parameter's own tensor may be empty; DeepSpeed keeps its size beside.
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _share(module: nn.Module) -> float:
    """Return the share of a module's weights that learn."""
    sizes = [(_size(p), p.requires_grad) for p in module.parameters()]
    return sum(size for size, learns in sizes if learns) / max(1, sum(size for size, _ in sizes))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
