"""How a picture becomes tiles, and how many visual tokens it costs: arithmetic only, no pixels."""

import hashlib
import math
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipeline.slicing import all_grids, most_effective, nearest_area, nearest_shape, unpadded
from pipeline.typed import Typed

_BLOCK = 32_768
"""Pictures looked at together: their numbers stay in the processor's cache."""
_ANYRES = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
"""LLaVA-NeXT: two tiles, four, or three in a line."""
NEWLINE = -1
"""Stands for the end of a row of features."""
_LATER = ("unpad", "patch", "fine")
"""Settings that came later: plans made without them keep their ids."""
Box = tuple[float, float, float, float]
Span = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First, and how many."""


class ImagePolicy(Typed):
    """What the vision tower sees of a picture."""

    kind: Literal["resize", "pad", "slices", "anyres", "adaptive", "fixed"] = "resize"
    """One tile: squeezed to a square (`resize`) or letterboxed (`pad`). Or a grid of tiles and, last,
    an overview: InternVL's dynamic tiles (`slices`), LLaVA-NeXT's AnyRes (`anyres`, letterboxed),
    MiniCPM-V's adaptive slices (`adaptive`), SPHINX's and MM1's sub-images (`fixed`, letterboxed)."""
    size: int = Field(default=336, ge=1)
    """Side of a tile, in pixels."""
    tokens: int = Field(default=576, ge=1)
    """Visual tokens a tile."""
    max_slices: int = Field(default=1, ge=1)
    """Largest number of slices, without the overview."""
    shapes: tuple[tuple[PositiveInt, PositiveInt], ...] = ()
    """(columns, rows) to choose from, of `anyres` and `fixed`; by default LLaVA-NeXT's five, or 2 x 2."""

    unpad: bool = False
    """Of `anyres`: features of the padding are cut away, each row of the others ends in a newline token,
    and the overview comes first, as in LLaVA-NeXT. `tokens` is a square: those of a tile's rows."""
    patch: int | None = Field(default=None, ge=1)
    """Of `adaptive`: each slice keeps its aspect ratio, in whole patches of so many pixels a side, on an
    area of at most a tile, as in MiniCPM-V; positions are interpolated to it."""
    fine: int | None = Field(default=None, ge=1)
    """Of one tile: side, in pixels, of a finer look at the same picture for a run's `fine` branch, as in
    CogAgent; it costs no tokens."""

    @model_validator(mode="after")
    def _later_fits(self) -> Self:
        if self.unpad and (self.kind != "anyres" or math.isqrt(self.tokens) ** 2 != self.tokens):
            raise ValueError("`unpad` is for anyres, with a square number of tokens a tile")
        if self.patch and (self.kind != "adaptive" or self.size % self.patch):
            raise ValueError("`patch` is for adaptive, and divides `size`")
        if self.fine and self.kind not in ("resize", "pad"):
            raise ValueError("`fine` is for resize and pad: a finer look for each tile")
        return self

    @model_serializer(mode="wrap")
    def _without_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {n: v for n, v in values.items() if v or n not in _LATER}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.shapes and self.kind not in ("anyres", "fixed"):
            raise ValueError(f"`shapes` is for anyres and fixed, not {self.kind}")
        if self.kind == "fixed" and len(self.shapes) > 1:
            raise ValueError("fixed has one shape; anyres chooses among several")
        if self.max_slices > 1 and self.kind not in ("slices", "adaptive"):
            raise ValueError(f"`max_slices` is for slices and adaptive, not {self.kind}")
        return self

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def letterbox(self) -> bool:
        """Whether slices show the picture in its aspect ratio, with grey around it."""
        return self.kind in ("pad", "anyres", "fixed")

    @cached_property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """All (columns, rows) a picture may get."""
        match self.kind:
            case "slices" | "adaptive":
                return all_grids(self.max_slices)
            case "anyres":
                return self.shapes or _ANYRES
            case "fixed":
                return self.shapes or ((2, 2),)
        return ((1, 1),)

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

    def visual(self, widths: ArrayLike, heights: ArrayLike) -> NDArray[np.int64]:
        """Return the number of visual tokens of pictures of these sizes.

        >>> ImagePolicy(kind="anyres", size=336, tokens=576, unpad=True).visual([1000], [500])
        array([1752])
        """
        tiles = self.tiles(widths, heights).astype(np.int64)
        if not self.unpad:
            return tiles * self.tokens
        w, h = np.asarray(widths, np.int64), np.asarray(heights, np.int64)
        rows, columns = self._kept(w, h)
        overview = np.where(tiles > 1, self.tokens, 0)
        count: NDArray[np.int64] = rows[1] * (columns[1] + 1) + overview
        return count

    def reading(self, width: int, height: int) -> NDArray[np.int64]:
        """Return which feature stands at each visual token of a picture whose padding is cut away.

        Features are numbered through its tiles; `NEWLINE` ends a row.
        """
        side, (columns, _) = math.isqrt(self.tokens), self.grid(width, height)
        (top, high), (left, wide) = (
            (int(first[0]), int(count[0]))
            for first, count in self._kept(np.array([width]), np.array([height]))
        )
        row = np.arange(top, top + high)[:, None]
        column = np.arange(left, left + wide)[None]
        tile = row // side * columns + column // side
        kept = tile * self.tokens + row % side * side + column % side
        lines = np.hstack([kept, np.full((high, 1), NEWLINE)]).ravel()
        tiles = int(self.tiles([width], [height])[0])
        overview = np.arange(self.tokens) + (tiles - 1) * self.tokens
        return np.concatenate([overview, lines]) if tiles > 1 else lines

    def _kept(self, widths: NDArray[np.int64], heights: NDArray[np.int64]) -> tuple[Span, Span]:
        """Return which rows and columns of a grid's features show some of the picture."""
        grids = np.array(self.grids, np.int64)[self._choose(widths, heights)]
        side = math.isqrt(self.tokens)
        return unpadded(widths, heights, grids[:, 0] * side, grids[:, 1] * side)

    def patches(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """Return columns and rows of patches of each tile that keeps its shape; overview last.

        >>> ImagePolicy(kind="adaptive", size=448, max_slices=9, patch=14).patches(1344, 448)
        ((32, 32), (32, 32), (32, 32), (55, 18))
        """
        assert self.patch
        columns, rows = self.grid(width, height)
        cells = (self.size // self.patch) ** 2

        def near(across: int, down: int) -> tuple[int, int]:
            wide = min(max(round(math.sqrt(cells * across / down)), 1), cells)
            return wide, min(max(round(wide * down / across), 1), cells // wide)

        slices = columns * rows
        each = (near(width * rows, height * columns),) * slices
        return (*each, near(width, height)) if slices > 1 else each

    def inner(self, width: int, height: int, canvas: tuple[int, int]) -> tuple[int, int]:
        """Return width and height, in pixels, of a picture on a canvas: all of it, or letterboxed."""
        if not self.letterbox:
            return canvas
        scale = min(canvas[0] / width, canvas[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def frames(self, width: int, height: int) -> tuple[Box, ...]:
        """Return which part of the picture each tile shows, x0 y0 x1 y1 in its pixels; overview last.

        What lies outside the picture is grey.

        >>> ImagePolicy(kind="adaptive", size=448, max_slices=9).frames(896, 448)
        ((0.0, 0.0, 448.0, 448.0), (448.0, 0.0, 896.0, 448.0), (0.0, 0.0, 896.0, 448.0))
        """
        columns, rows = self.grid(width, height)
        x0, y0, x1, y1 = self._shown(width, height, columns, rows)
        wide, high = (x1 - x0) / columns, (y1 - y0) / rows
        slices = [
            (x0 + c * wide, y0 + r * high, x0 + (c + 1) * wide, y0 + (r + 1) * high)
            for r in range(rows)
            for c in range(columns)
        ]
        return (*slices, self._overview(width, height)) if len(slices) > 1 else tuple(slices)

    @property
    def letterboxed_overview(self) -> bool:
        """Whether the overview keeps the aspect ratio; LLaVA-NeXT's does not."""
        return self.letterbox and self.kind != "anyres"

    def _overview(self, width: int, height: int) -> Box:
        if self.letterboxed_overview:
            return self._shown(width, height, 1, 1)
        return 0.0, 0.0, float(width), float(height)

    def _shown(self, width: int, height: int, columns: int, rows: int) -> Box:
        """Return the part of the picture's plane that a grid covers."""
        canvas = columns * self.size, rows * self.size
        inner = self.inner(width, height, canvas)
        left, top = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
        across, down = width / inner[0], height / inner[1]
        return (-left * across, -top * down, (canvas[0] - left) * across, (canvas[1] - top) * down)

    def _choose(self, widths: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return which of the grids each picture gets."""
        match self.kind:
            case "slices":
                return nearest_shape(widths, heights, self.grids, self.size)
            case "adaptive":
                return nearest_area(widths, heights, self.grids, self.size)
            case "anyres":
                return most_effective(widths, heights, self.grids, self.size)
        return np.zeros(len(widths), np.int16)
