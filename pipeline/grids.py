"""Boxes in pixels to whole numbers and back, as published models count them.

A grid says where a coordinate's steps lie: in fractions of the picture's side, in pixels of a
resized picture, or in numbered cells. How the numbers are spelt is `pipeline.boxes`' business.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the displayed picture."""


class Grid(Protocol):
    """Pixels <-> numbers. Boxes are clipped to the picture on the way out."""

    @property
    def bins(self) -> int:
        """Least number of steps along a side."""
        ...

    def count(self, box: Sequence[float], width: int, height: int) -> tuple[int, ...]:
        """Return the numbers of a box in pixels."""
        ...

    def place(self, numbers: Sequence[float], width: int, height: int) -> Box:
        """Return the box in pixels of such numbers; neither clipped nor put in order."""
        ...

    def error(self, width: int, height: int) -> tuple[float, float]:
        """Return the most, in pixels of x and y, by which a box inside the picture can come back wrong."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Each coordinate as a fraction of its side, times `bins`, to a whole number."""

    bins: int
    y_first: bool = False
    """Numbers stand as y0 x0 y1 x1."""
    shift: int = 0
    """Added to every number: where the coordinates begin in the vocabulary."""
    floor: bool = False
    """Round down instead of to the nearest (halves to even)."""
    top: int | None = None
    """Largest number written, if smaller than `bins`."""
    square: bool = False
    """Fractions of the picture padded to a square, evenly on both sides of its shorter axis."""

    def count(self, box: Sequence[float], width: int, height: int) -> tuple[int, ...]:
        """
        >>> Fractions(bins=999, y_first=True, shift=1000).count((64, 120, 320, 360), 640, 480)
        (1250, 1100, 1749, 1500)
        """
        numbers = []
        for value, (side, offset, whole) in zip(box, self._sides(width, height), strict=True):
            steps = (min(max(value, 0.0), side) + offset) * self.bins / whole
            # What was read from a number is written as that number, whatever floats made of it.
            number = math.floor(steps + 1e-6) if self.floor else round(steps)
            numbers.append(min(number, self.bins if self.top is None else self.top) + self.shift)
        return self._ordered(numbers)

    def place(self, numbers: Sequence[float], width: int, height: int) -> Box:
        """
        >>> Fractions(bins=100, square=True).place((10, 31, 50, 69), 640, 480)
        (64.0, 118.4, 320.0, 361.6)
        """
        found = [
            round((number - self.shift) * whole / self.bins - offset, 9)
            for number, (_, offset, whole) in zip(
                self._ordered(numbers), self._sides(width, height), strict=True
            )
        ]
        return found[0], found[1], found[2], found[3]

    def error(self, width: int, height: int) -> tuple[float, float]:
        most = 1.0 if self.floor or self.top is not None else 0.5
        (_, _, wide), (_, _, high), *_ = self._sides(width, height)
        return most * wide / self.bins, most * high / self.bins

    def _ordered(self, four: Sequence[T]) -> tuple[T, ...]:
        a, b, c, d = four
        return (b, a, d, c) if self.y_first else (a, b, c, d)

    def _sides(self, width: int, height: int) -> tuple[tuple[int, int, int], ...]:
        """Return for x0, y0, x1, y1: the side, its offset in the padded picture, the padded side."""
        if not self.square:
            return ((width, 0, width), (height, 0, height)) * 2
        long = max(width, height)
        return ((width, (long - width) // 2, long), (height, (long - height) // 2, long)) * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """Absolute pixels of the picture as the model sees it, both sides multiples of `factor`.

    Source: `smart_resize` of Qwen2.5-VL (arXiv:2502.13923). The numbers depend on the pixel budget.
    """

    factor: int = 28
    min_pixels: int = 56 * 56
    max_pixels: int = 14 * 14 * 4 * 16_384

    @property
    def bins(self) -> int:
        return self.factor

    def size(self, width: int, height: int) -> tuple[int, int]:
        """
        >>> Resized().size(640, 480)
        (644, 476)
        """
        whole = self.factor
        wide, high = (max(whole, round(side / whole) * whole) for side in (width, height))
        if wide * high > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            wide, high = (
                max(whole, math.floor(side / shrink / whole) * whole) for side in (width, height)
            )
        elif wide * high < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            wide, high = (math.ceil(side * grow / whole) * whole for side in (width, height))
        return wide, high

    def count(self, box: Sequence[float], width: int, height: int) -> tuple[int, ...]:
        """
        >>> Resized().count((64, 120, 320, 360), 640, 480)
        (64, 119, 322, 357)
        """
        new = self.size(width, height) * 2
        return tuple(
            min(max(round(value * resized / side), 0), resized - 1)
            for value, resized, side in zip(box, new, (width, height) * 2, strict=True)
        )

    def place(self, numbers: Sequence[float], width: int, height: int) -> Box:
        wide, high = self.size(width, height)
        x0, y0, x1, y1 = numbers
        return x0 * width / wide, y0 * height / high, x1 * width / wide, y1 * height / high

    def error(self, width: int, height: int) -> tuple[float, float]:
        # The last pixel stands for the picture's edge: there a whole pixel is lost.
        wide, high = self.size(width, height)
        return width / wide, height / high


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The numbers of the upper-left and lower-right cell of a square grid, row by row.

    Source: Kosmos-2 (arXiv:2306.14824) as its processor in `transformers` decodes it: cell centres,
    or whole cells where both corners share a row or column.
    """

    bins: int

    def count(self, box: Sequence[float], width: int, height: int) -> tuple[int, ...]:
        """
        >>> Cells(bins=32).count((64, 120, 320, 360), 640, 480)
        (259, 784)
        """
        x0, y0, x1, y1 = (
            min(max(value / side, 0.0), 1 - 1e-5)
            for value, side in zip(box, (width, height) * 2, strict=True)
        )
        upper_left, lower_right = (
            int(x * self.bins) + self.bins * int(y * self.bins) for x, y in ((x0, y0), (x1, y1))
        )
        return upper_left, lower_right

    def place(self, numbers: Sequence[float], width: int, height: int) -> Box:
        """
        >>> Cells(bins=32).place((259, 784), 640, 480)
        (70.0, 127.5, 330.0, 367.5)
        """
        (row0, column0), (row1, column1) = (divmod(number, self.bins) for number in numbers)
        same = row0 == row1 or column0 == column1
        near, far = (0.0, 1.0) if same else (0.5, 0.5)
        across, down = width / self.bins, height / self.bins
        return (
            (column0 + near) * across,
            (row0 + near) * down,
            (column1 + far) * across,
            (row1 + far) * down,
        )

    def error(self, width: int, height: int) -> tuple[float, float]:
        return width / self.bins, height / self.bins
