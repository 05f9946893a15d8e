"""What a run keeps in memory: foretold from its shapes, and measured.

Activations are counted by what autograd keeps of each operation, after Korthikanti et al.,
https://arxiv.org/abs/2205.05198, section 4, but for gated MLPs, RMSNorm and attention whose matrix is never
whole in memory.
"""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog import Catalog
from model.config import RunConfig
from pipeline.plan import Plan
from pipeline.spots import SIDE, SPOT

STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The largest micro-batch of a rank."""

    tokens: int
    """Padding among them."""
    tiles: int
    learnt: int
    """Tokens with a loss."""
    locations: int = 0
    """Location tokens; what learning one keeps is counted for those that are given too."""
    rows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one rank's device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations")
        told = ", ".join(f"{part} {getattr(self, part) / 2**20:,.0f}" for part in parts)
        return f"{self.total / 2**20:,.0f} MiB a process: {told}"


def load_of(plan: Plan, config: RunConfig, ranks: int) -> Load:
    """Return the largest micro-batch that a plan gives a rank; each number by itself the largest."""
    table = pq.read_table(plan.file, columns=["tokens", "tiles", "loss_tokens"])
    rows = max(1, plan.packs_per_step // ranks)
    size = min(rows, config.micro_batch)
    pieces = -(-rows // size)

    def largest(values: NDArray[Any], *, padded: bool = False) -> int:
        values = values.astype(np.int64)
        values = values[: len(values) // rows * rows].reshape(-1, rows)
        values = np.pad(values, ((0, 0), (0, pieces * size - rows))).reshape(-1, size)
        return int((values.max(1) * size if padded else values.sum(1)).max(initial=0))

    return Load(
        tokens=largest(table["tokens"].to_numpy(), padded=True),
        tiles=largest(table["tiles"].to_numpy()),
        learnt=largest(table["loss_tokens"].to_numpy()),
        locations=largest(_locations(plan, config)) if plan.located else 0,
        rows=size,
    )


def _locations(plan: Plan, config: RunConfig) -> NDArray[np.int64]:
    """Return the location tokens of each pack, by the sizes of its members' encodings."""
    catalog, counts = Catalog.open(config.catalog), []
    for part in plan.header["parts"]:
        file = catalog.path / part
        if catalog.remote:
            catalog.remote.skeleton(file)
        found = pl.read_parquet(file, columns=["size", "n_tokens", "n_images"])
        # Five bytes a token and picture; where there are spots, four more bytes say how many.
        beside = pl.col("size") - 5 * (pl.col("n_tokens") + pl.col("n_images").fill_null(0))
        counts.append(found.select(beside // SPOT.itemsize).to_series().to_numpy())
    firsts = np.cumsum([0, *map(len, counts)])
    parts, rows = (plan.table[name].combine_chunks() for name in ("parts", "rows"))
    members = firsts[parts.flatten().to_numpy()] + rows.flatten().to_numpy()
    summed = np.append(0, np.cumsum(np.concatenate(counts, dtype=np.int64)[members]))
    bounds: NDArray[np.int64] = summed[parts.offsets.to_numpy() - parts.offsets[0].as_py()]
    return np.diff(bounds)


def foretell(model: Any, config: RunConfig, ranks: int, load: Load) -> Memory:
    """Return what a rank of a run will keep.

    Weights are fp32; with bf16 under ZeRO 2 bytes for weights and gradients and an fp32 copy beside the
    moments, without ZeRO bf16 copies of the matrices that autocast makes. ZeRO 1 shares the optimizer's
    state among the ranks, 2 the gradients too, 3 and FSDP2 the weights too.
    """
    sizes = [(size_of(p), p.requires_grad) for p in model.parameters()]
    every, learning = sum(size for size, _ in sizes), sum(s for s, learns in sizes if learns)
    bf16, sharded = config.precision == "bf16", config.engine == "fsdp2"
    half = bf16 and config.zero > 0
    weights, gradients = (2 * every, 2 * learning) if half else (4 * every, 4 * learning)
    optimizer = (12 if config.zero else 8) * learning
    weights //= ranks if sharded or config.zero > 2 else 1
    gradients //= ranks if sharded or config.zero > 1 else 1
    optimizer = 0 if config.offload else optimizer // (ranks if sharded or config.zero else 1)
    if bf16 and not half and not sharded:
        weights += 2 * every
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations(model, config, load),
    )


def activations(model: Any, config: RunConfig, load: Load) -> int:
    """Return about how many bytes a micro-batch keeps for the backward pass."""
    text, tower = model.language.config, model.vision.tower.config
    patches = load.tiles * model.vision.patches(model.side) ** 2
    bf16 = config.precision == "bf16"
    cast = bf16 and not config.zero and config.engine == "deepspeed"
    width = 2 if bf16 else 4
    stream = 4 if cast or not bf16 else 2
    wide, deep = text.hidden_size, text.num_hidden_layers
    head = getattr(text, "head_dim", None) or wide // text.num_attention_heads
    heads = head * (text.num_attention_heads + getattr(text, "num_key_value_heads", 0))
    # Bytes a place and feature. RMSNorm keeps its input, what it scaled, and what comes out for the
    # matrices behind it; autocast keeps an input of its own for each matrix.
    norms = 2 * 8 + 5 * 2 if cast else 2 * (8 if bf16 else 12)
    # Queries, keys, values, what attention gives; gate, its SiLU, up and their product.
    layer = norms * wide + width * (2 * heads + 4 * text.intermediate_size)
    look = 2 * 4 + 4 * 2 if cast else 4 * width

    def eye(tower: Any) -> int:
        broad, inner = int(tower.hidden_size), int(tower.intermediate_size)
        return (look + 4 * width) * broad + 2 * width * inner

    kept = [
        # Places, what a layer keeps of each, what checkpointing keeps instead, layers.
        (load.tokens, layer, stream * wide, deep),
        (patches, eye(tower), stream * tower.hidden_size, tower.num_hidden_layers),
    ]
    # The pixels, what comes out of the tower and into the connector, and two of its layers.
    side, tokens = (
        model.side,
        load.tiles * model.connector.config.tokens(model.vision.patches(model.side)),
    )
    total = load.tiles * 4 * 3 * side**2 + width * round(
        4 * patches * tower.hidden_size + 3 * tokens * wide
    )
    if (fine := model.fine) is not None:
        tower, crosses, narrow = fine.vision.tower.config, len(fine.cross), fine.config.width
        patches = load.tiles * fine.vision.patches(fine.side) ** 2
        # A token's state, normed, what it asks and is told, where it stands; keys and values, and
        # autocast's own features for each of the two.
        asks = (stream + width) * wide + 2 * width * narrow + 24
        shows = 2 * width * (narrow + cast * tower.hidden_size)
        kept += [
            (patches, eye(tower), stream * tower.hidden_size, tower.num_hidden_layers),
            (load.tokens, asks, 0, crosses),
            (patches, shows, 0, crosses),
        ]
        # The pixels, and what comes out of the tower, laid out by samples.
        total += load.tiles * 4 * 3 * fine.side**2 + patches * stream * tower.hidden_size
    for places, whole, instead, layers in kept:
        each = instead * layers + whole if config.gradient_checkpointing else whole * layers
        total += places * each
    if model.locations is not None:
        # The state; two hidden layers of the box's decoder and one of the encoder, each before and after
        # its GELU, and what is encoded; the mask's layers, its cells foretold and true.
        total += load.locations * (8 * width * wide + width * 7_840 + 4 * 2 * SIDE**2)
    # What keeps samples apart, once for all layers.
    if text._attn_implementation == "sdpa":
        total += width * load.tokens**2 // load.rows
    # Logits of learnt tokens, their logarithms, and the gradient of one of them.
    return int(total + load.learnt * text.vocab_size * (width + 8))


def held(device: torch.device) -> int:
    """Return the bytes in use now, on CPU; from now on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    if not STATUS.exists():
        return peak(device)
    # Linux forgets the highest mark so far: imports may have needed more than is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    """Return the most bytes that were in use: the device's, or the process's on CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if STATUS.exists():
        return _status("VmHWM")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def size_of(parameter: Tensor) -> int:
    """Return the numbers in a whole parameter."""
    # Under ZeRO 3 a parameter's own tensor may be empty; DeepSpeed keeps its size beside.
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
