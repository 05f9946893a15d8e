"""Polygons as text: Pix2seq's tokens, Qwen-VL's quadrangles, and lists in a model's own bins.

Sources: Pix2seq's multi-task form (arXiv:2206.07669), Qwen-VL (arXiv:2308.12966). PaliGemma's mask
codes are no polygons: they mean something only to its published decoder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.grids import Fractions

Polygon = tuple[float, ...]
"""x0, y0, x1, y1, ... in pixels; holes cannot be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonFormat:
    """One convention for the outlines of one object, which may fall into several parts."""

    name: str
    grid: Fractions
    point: str
    between: str
    """Between two points."""
    around: tuple[str, str, str]
    """Before the first polygon, between two, after the last."""
    pattern: re.Pattern[str]
    """Finds the points of one polygon."""
    corners: int | None = None
    """So many points exactly; None: any number from three."""

    def write(self, polygons: Sequence[Sequence[float]], width: int, height: int) -> str:
        """Return the text of polygons in pixels, clipped to the picture.

        Raises:
            ValueError: the convention cannot say so many points.

        >>> POLYGONS["pix2seq"].write([(0, 0, 10, 0, 10, 20)], 10, 20)
        '1000 1000 1000 1999 1999 1999'
        """
        before, between, after = self.around
        return before + between.join(self._one(p, width, height) for p in polygons) + after

    def _one(self, polygon: Sequence[float], width: int, height: int) -> str:
        points = list(zip(polygon[::2], polygon[1::2], strict=True))
        if len(points) < 3 or (self.corners is not None and len(points) != self.corners):
            wanted = self.corners or "three or more"
            raise ValueError(f"{self.name} writes {wanted} points, not {len(points)}")
        return self.between.join(
            self.point.format(*self.grid.count((*point, *point), width, height)[:2])
            for point in points
        )

    def read(self, text: str, width: int, height: int) -> list[Polygon]:
        """Return the polygons in a text, in pixels, clipped to the picture.

        >>> POLYGONS["qwen-vl"].read("<quad>(0,0),(999,0),(999,999),(0,999)</quad>", 10, 20)
        [(0.0, 0.0, 10.0, 0.0, 10.0, 20.0, 0.0, 20.0)]
        """
        found = []
        for match in self.pattern.finditer(text):
            numbers = [int(number) for number in re.findall(r"\d+", match[1])]
            flat: list[float] = []
            for pair in zip(numbers[::2], numbers[1::2], strict=False):
                x, y, _, _ = self.grid.place((*pair, *pair), width, height)
                flat += [min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))]
            points = len(flat) // 2
            if points >= 3 and self.corners in (None, points):
                found.append(tuple(flat))
        return found


def _pairs(number: str, least: int) -> str:
    return rf"{number}(?:[\s,]+{number}){{{2 * least - 1},}}"


POLYGONS: dict[str, PolygonFormat] = {
    polygon.name: polygon
    for polygon in (
        PolygonFormat(
            name="pix2seq",
            grid=Fractions(bins=999, y_first=True, shift=1000),
            point="{} {}",
            between=" ",
            around=("", " 40 ", ""),
            pattern=re.compile(rf"(?<!\d)({_pairs(r'1[0-9]{3}', 3)})(?!\d)"),
        ),
        PolygonFormat(
            name="qwen-vl",
            grid=Fractions(bins=999),
            point="({},{})",
            between=",",
            around=("<quad>", "</quad><quad>", "</quad>"),
            pattern=re.compile(r"<quad>([\s\d,()]*)(?:</quad>|$)"),
            corners=4,
        ),
        PolygonFormat(
            name="thousandths",
            grid=Fractions(bins=1000),
            point="{},{}",
            between=",",
            around=("[[", "],[", "]]"),
            pattern=re.compile(rf"\[\s*({_pairs(r'[0-9]{1,4}', 3)})\s*\]"),
        ),
    )
}
"""Convention -> how it writes and reads polygons."""
