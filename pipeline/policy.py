"""How a picture becomes tiles, and how many visual tokens it costs: arithmetic only, no pixels.

Slices follow InternVL 1.5's dynamic resolution: https://arxiv.org/abs/2404.16821, section 3.
"""

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field


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

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return columns and rows of the slices of a picture.

        >>> ImagePolicy(kind="slices", size=448, tokens=256, max_slices=12).grid(1600, 800)
        (4, 2)
        """
        columns, rows = self._grids(np.array([width]), np.array([height]))
        return int(columns[0]), int(rows[0])

    def tiles(self, widths: ArrayLike, heights: ArrayLike) -> NDArray[np.int32]:
        """Return the number of tiles of pictures of these sizes, overviews included."""
        w, h = np.asarray(widths, np.int64), np.asarray(heights, np.int64)
        if self.kind != "slices":
            return np.ones(len(w), np.int32)
        columns, rows = self._grids(w, h)
        slices = columns * rows
        return np.where(slices > 1, slices + 1, 1).astype(np.int32)

    def _grids(
        self, widths: NDArray[np.int64], heights: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.kind != "slices":
            return np.ones_like(widths), np.ones_like(heights)
        shapes = sorted(
            {
                (columns, rows)
                for columns in range(1, self.max_slices + 1)
                for rows in range(1, self.max_slices // columns + 1)
            },
            key=lambda shape: (shape[0] * shape[1], shape),
        )
        ratio, area = widths / heights, widths * heights
        best = np.full(len(widths), np.inf)
        chosen_columns, chosen_rows = np.ones_like(widths), np.ones_like(heights)
        for columns, rows in shapes:
            distance = np.abs(ratio - columns / rows)
            # Among equal shapes, more slices only for pictures that have the pixels for them.
            larger = (distance == best) & (area > 0.5 * self.size**2 * columns * rows)
            take = (distance < best) | larger
            best = np.where(take, distance, best)
            chosen_columns = np.where(take, columns, chosen_columns)
            chosen_rows = np.where(take, rows, chosen_rows)
        return chosen_columns, chosen_rows
