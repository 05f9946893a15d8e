"""Which grid of slices a picture gets: the choices of published models, for many pictures at once.

Only exact arithmetic and correctly rounded division: every machine chooses the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Sizes = NDArray[np.int64]
Choice = NDArray[np.int16]
"""For each picture, the place of its grid in `grids`."""
Grids = Sequence[tuple[int, int]]
"""(columns, rows), fewest slices first."""


def all_grids(most: int) -> tuple[tuple[int, int], ...]:
    """Return all grids of at most so many slices, fewest first.

    >>> all_grids(3)
    ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
    """
    sides = range(1, most + 1)
    shapes = [(c, r) for c in sides for r in sides if c * r <= most]
    return tuple(sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape)))


def nearest_shape(widths: Sizes, heights: Sizes, grids: Grids, size: int) -> Choice:
    """InternVL 1.5, https://arxiv.org/abs/2404.16821, section 3: the aspect ratio nearest by difference.

    Among equal shapes, more slices only for pictures that have half the pixels for them.
    """
    ratio, area = widths / heights, widths * heights
    best = np.full(len(widths), np.inf)
    chosen = np.zeros(len(widths), np.int16)
    for number, (columns, rows) in enumerate(grids):
        distance = np.abs(ratio - columns / rows)
        large = area > 0.5 * size**2 * columns * rows
        take = (distance < best) | ((distance == best) & large)
        np.copyto(best, distance, where=take)
        np.copyto(chosen, number, where=take, casting="unsafe")
    return chosen


def most_effective(widths: Sizes, heights: Sizes, grids: Grids, size: int) -> Choice:
    """LLaVA-NeXT, https://llava-vl.github.io/blog/2024-01-30-llava-next: most picture, least padding."""
    most = np.full(len(widths), -1, np.int64)
    chosen = np.zeros(len(widths), np.int16)
    least = np.zeros(len(widths), np.int64)
    for number, (columns, rows) in enumerate(grids):
        wide, high = columns * size, rows * size
        scale = np.minimum(wide / widths, high / heights)
        shown = (widths * scale).astype(np.int64) * (heights * scale).astype(np.int64)
        effective = np.minimum(shown, widths * heights)
        wasted = wide * high - effective
        take = (effective > most) | ((effective == most) & (wasted < least))
        np.copyto(most, effective, where=take)
        np.copyto(least, wasted, where=take)
        np.copyto(chosen, number, where=take, casting="unsafe")
    return chosen


def nearest_area(widths: Sizes, heights: Sizes, grids: Grids, size: int) -> Choice:
    """MiniCPM-V 2.5, https://arxiv.org/abs/2408.01800, section 3.1: slices near the pre-training area.

    As many slices as the picture has areas of `size**2`, one more or one less; among those the shape
    nearest by the logarithm of the aspect ratio. A picture of at most one area is not cut.
    """
    most = max(columns * rows for columns, rows in grids)
    ideal = np.minimum(-(-(widths * heights) // size**2), most)
    best = np.full(len(widths), np.inf)
    chosen = np.zeros(len(widths), np.int16)
    for number, (columns, rows) in enumerate(grids):
        slices = columns * rows
        # Logarithms differ as the larger quotient does, and a quotient is rounded alike everywhere.
        across, down = widths * rows, heights * columns
        distance = np.maximum(across / down, down / across)
        take = (ideal > 1) & (slices > 1) & (np.abs(ideal - slices) <= 1) & (distance < best)
        np.copyto(best, distance, where=take)
        np.copyto(chosen, number, where=take, casting="unsafe")
    return chosen


def unpadded(
    widths: Sizes, heights: Sizes, columns: Sizes, rows: Sizes
) -> tuple[tuple[Sizes, Sizes], tuple[Sizes, Sizes]]:
    """Return the first row and the number of rows, then of columns, that a letterboxed picture fills.

    `unpad_image` of LLaVA-NeXT: what is cut away is the same on both sides.

    >>> one, two = np.array([1]), np.array([2])
    >>> unpadded(two, one, 48 * one, 48 * one)
    ((array([12]), array([24])), (array([0]), array([48])))
    """
    wider = widths * rows > heights * columns
    high = np.where(wider, heights * columns // widths, rows)
    wide = np.where(wider, columns, widths * rows // heights)
    top, left = (rows - high) // 2, (columns - wide) // 2
    return (top, rows - 2 * top), (left, columns - 2 * left)
