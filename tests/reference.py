"""The reference mix that packing is measured on: made-up samples of six kinds, from a fixed seed.

256 tokens a tile; on average about 1,450 tokens and 4.5 tiles a sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS = (0.20, 0.28, 0.17, 0.12, 0.05, 0.18)
"""Captions, VQA, OCR, grounding, several pictures, text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Samples as columns."""

    kinds: NDArray[np.int64]
    """Place in `PARTS`."""
    tokens: NDArray[np.int64]
    """Text and visual tokens."""
    tiles: NDArray[np.int64]


def reference_mix(count: int = 60_000, seed: int = 0) -> Mix:
    """Return so many samples."""
    random = np.random.default_rng(seed)
    kinds = random.choice(6, count, p=PARTS)
    tiles = np.stack(
        [
            random.choice([1, 3, 5, 7], count, p=[0.15, 0.25, 0.3, 0.3]),
            random.choice([1, 3, 5, 7], count, p=[0.2, 0.3, 0.25, 0.25]),
            random.choice([5, 7, 9, 11, 13], count, p=[0.15, 0.2, 0.3, 0.2, 0.15]),
            random.choice([1, 3, 5, 7], count, p=[0.1, 0.3, 0.4, 0.2]),
            random.choice([4, 6, 8, 10, 12, 16], count),
            np.zeros(count, np.int64),
        ]
    )[kinds, np.arange(count)]
    mean = np.array([110, 50, 340, 70, 300, 1000])[kinds]
    text = random.lognormal(np.log(mean) - 0.18, 0.6).astype(np.int64) + 8
    return Mix(kinds=kinds, tokens=np.minimum(text + 256 * tiles, 8192), tiles=tiles)


def heavy_mix(count: int = 60_000, seed: int = 1) -> Mix:
    """Return samples whose tiles and texts have heavy tails: hard to pack where tiles bind."""
    random = np.random.default_rng(seed)
    tiles = np.clip(np.rint(random.lognormal(1.2, 0.9, count)), 1, 20).astype(np.int64)
    shown = random.random(count) < 0.82
    text = random.lognormal(4.9, 1.1, count).astype(np.int64) + 8
    tiles = tiles * shown
    return Mix(
        kinds=shown.astype(np.int64), tokens=np.minimum(text + 256 * tiles, 8192), tiles=tiles
    )
