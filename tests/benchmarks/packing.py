"""Packing under two budgets: this project against pad-to-longest, first fit and TRL, side by side.

    python -m tests.benchmarks.packing [samples]

The reference mix (tests/reference.py, seed 0), capacity 8,192 tokens, and 24 or 32 tiles a pack. Rounds
are interleaved in one process, medians are printed. TRL's `bfd` knows no tiles: packs that pass the tile
budget are counted as overruns.
"""

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import pyarrow as pa
from datasets import Dataset, disable_progress_bars
from numpy.typing import NDArray
from trl.data_utils import pack_dataset

from pipeline.packing import lower_bound, pack
from tests.reference import Mix, heavy_mix, reference_mix

CAPACITY = 8_192
OPEN_BINS = 20
BATCH = 8
"""Samples that are padded to the longest of them."""
ROUNDS = 3

Packs = NDArray[np.int64]
"""The pack of each sample."""


def ours(mix: Mix, tiles: int) -> Packs:
    return pack(mix.tokens, mix.tiles, CAPACITY, tiles).astype(np.int64)


def first_fit(mix: Mix, tiles: int) -> Packs:
    """Put each sample into the first of 20 open bins that holds it; else close the fullest."""
    packs = np.empty(len(mix.tokens), np.int64)
    bins: list[tuple[int, int, int]] = []
    count = 0
    for place, (tokens, pictures) in enumerate(
        zip(mix.tokens.tolist(), mix.tiles.tolist(), strict=True)
    ):
        for slot, (number, used, shown) in enumerate(bins):
            if used + tokens <= CAPACITY and shown + pictures <= tiles:
                bins[slot] = (number, used + tokens, shown + pictures)
                packs[place] = number
                break
        else:
            if len(bins) == OPEN_BINS:
                bins.remove(max(bins, key=lambda each: each[1]))
            bins.append((count, tokens, pictures))
            packs[place] = count
            count += 1
    return packs


def trl_bfd(dataset: Dataset, mix: Mix) -> Packs:
    """Pack with TRL; every sample's tokens are its number, so that its pack can be told."""
    packed = pack_dataset(dataset, CAPACITY, "bfd").with_format("arrow")[:]
    lengths = packed["seq_lengths"].combine_chunks()
    pieces = lengths.flatten().to_numpy().astype(np.int64)
    first = packed["input_ids"].combine_chunks().flatten().to_numpy()
    starts = np.cumsum(pieces) - pieces
    number = np.repeat(np.arange(len(lengths)), np.diff(lengths.offsets.to_numpy()))
    packs = np.empty(len(mix.tokens), np.int64)
    packs[first[starts]] = number
    return packs


def as_dataset(mix: Mix) -> Dataset:
    ids = np.repeat(np.arange(len(mix.tokens), dtype=np.int32), mix.tokens)
    bounds = np.concatenate([[0], np.cumsum(mix.tokens)])
    lists = pa.LargeListArray.from_arrays(bounds, pa.array(ids)).cast(pa.list_(pa.int32()))
    return Dataset(pa.table({"input_ids": lists}))


def padded(mix: Mix) -> float:
    """Return the used part of batches that are padded to their longest sample."""
    whole = mix.tokens[: len(mix.tokens) // BATCH * BATCH].reshape(-1, BATCH)
    return float(whole.sum() / (whole.max(axis=1) * BATCH).sum())


def row(name: str, mix: Mix, tiles: int, packs: Packs, seconds: float) -> str:
    count = int(packs.max()) + 1
    used = np.bincount(packs, mix.tokens)
    shown = np.bincount(packs, mix.tiles)
    over = int(((used > CAPACITY) | (shown > tiles)).sum())
    bound = lower_bound(mix.tokens, mix.tiles, CAPACITY, tiles)
    occupancy = mix.tokens.sum() / (count * CAPACITY)
    speed = f"{len(mix.tokens) / seconds:,.0f}"
    return f"| {name} | {tiles} | {count:,} | {occupancy:.4f} | {bound / count:.4f} | {over:,} | {speed} |"


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    disable_progress_bars()
    print(
        "| packer | tile cap | packs | of the token budget | of the lower bound | overruns | samples/s |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for title, mix in (
        ("reference mix", reference_mix(count)),
        ("heavy tails", heavy_mix(count)),
    ):
        dataset = as_dataset(mix)
        for tiles in (24, 32):
            sides: dict[str, Callable[[], Packs]] = {
                "cuvee": lambda mix=mix, tiles=tiles: ours(mix, tiles),  # type: ignore[misc]
                "first fit, 20 open bins": lambda mix=mix, tiles=tiles: first_fit(mix, tiles),  # type: ignore[misc]
                "TRL bfd": lambda dataset=dataset, mix=mix: trl_bfd(dataset, mix),  # type: ignore[misc]
            }
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            found = {}
            for _ in range(ROUNDS):
                for name, side in sides.items():
                    started = perf_counter()
                    found[name] = side()
                    seconds[name].append(perf_counter() - started)
            for name, packs in found.items():
                print(row(f"{title}: {name}", mix, tiles, packs, median(seconds[name])))
        print(f"| {title}: pad to longest of {BATCH} | - | - | {padded(mix):.4f} | - | - | - |")


if __name__ == "__main__":
    main()
