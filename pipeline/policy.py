"""How a picture becomes tiles, and how many visual tokens it costs: arithmetic only, no pixels.

Slices follow InternVL 1.5's dynamic resolution: https://arxiv.org/abs/2404.16821, section 3.
"""

import hashlib
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

_BLOCK = 32_768
"""Pictures looked at together: their numbers stay in the processor's cache."""


class ImagePolicy(BaseModel):
    """What the vision tower sees of a picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["resize", "pad", "slices"] = "resize"
    """Squeeze to a square; letterbox to a square; or a grid of squares with an overview."""
    size: int = Field(default=336, ge=1)
    """Side of a tile, in pixels."""
    tokens: int = Field(default=576, ge=1)
    """Visual tokens a tile."""
    max_slices: int = Field(default=1, ge=1)
    """Largest number of slices, without the overview."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """All (columns, rows) a picture may get, fewest slices first."""
        if self.kind != "slices":
            return ((1, 1),)
        most = range(1, self.max_slices + 1)
        shapes = [(c, r) for c in most for r in most if c * r <= self.max_slices]
        return tuple(sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape)))

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return columns and rows of the slices of a picture.

        >>> ImagePolicy(kind="slices", size=448, tokens=256, max_slices=12).grid(1600, 800)
        (4, 2)
        """
        return self.grids[int(self._choose(np.array([width]), np.array([height]))[0])]

    def tiles(self, widths: ArrayLike, heights: ArrayLike) -> NDArray[np.int32]:
        """Return the number of tiles of pictures of these sizes, overviews included."""
        w, h = np.asarray(widths, np.int64), np.asarray(heights, np.int64)
        slices = np.array([columns * rows for columns, rows in self.grids], np.int32)
        slices += slices > 1
        if len(slices) == 1:
            return np.full(len(w), slices[0], np.int32)
        tiles = np.empty(len(w), np.int32)
        for first in range(0, len(w), _BLOCK):
            block = slice(first, first + _BLOCK)
            tiles[block] = slices[self._choose(w[block], h[block])]
        return tiles

    def _choose(self, widths: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return which of the grids each picture gets."""
        ratio, area = widths / heights, widths * heights
        best = np.full(len(widths), np.inf)
        chosen = np.zeros(len(widths), np.int16)
        for number, (columns, rows) in enumerate(self.grids):
            distance = np.abs(ratio - columns / rows)
            # Among equal shapes, more slices only for pictures that have the pixels for them.
            large = area > 0.5 * self.size**2 * columns * rows
            take = (distance < best) | ((distance == best) & large)
            np.copyto(best, distance, where=take)
            np.copyto(chosen, number, where=take, casting="unsafe")
        return chosen
