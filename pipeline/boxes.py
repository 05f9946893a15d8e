"""Boxes as text, in the conventions that published models write and read.

Sources: Shikra (arXiv:2306.15195), Qwen-VL (arXiv:2308.12966), InternVL (arXiv:2404.16821) and
MiniGPT-v2 (arXiv:2310.09478).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the displayed picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFormat:
    """One convention: a coordinate is a fraction of the picture's side, rounded to 1 / bins."""

    name: str
    bins: int
    template: str
    """Four places for the coordinates x0, y0, x1, y1."""
    pattern: re.Pattern[str]
    """Finds one box; its four groups are the coordinates."""
    decimals: int | None = None
    """Coordinates are written as fractions with so many decimals; None: as whole bins."""

    def write(self, box: Sequence[float], width: int, height: int) -> str:
        """Return the text of a box in pixels, clipped to the picture.

        >>> BOXES["shikra"].write((10, 25, 50, 75), 100, 100)
        '[0.100,0.250,0.500,0.750]'
        """
        sides = (width, height, width, height)
        fractions = [min(max(v / side, 0.0), 1.0) for v, side in zip(box, sides, strict=True)]
        steps = [round(fraction * self.bins) for fraction in fractions]
        if self.decimals is None:
            return self.template.format(*steps)
        return self.template.format(*(f"{step / self.bins:.{self.decimals}f}" for step in steps))

    def read(self, text: str, width: int, height: int) -> list[Box]:
        """Return the boxes in a text, in its order, in pixels, corners in order.

        >>> BOXES["minigpt-v2"].read("2 cats, one at {<10><25><50><75>}", 200, 100)
        [(20.0, 25.0, 100.0, 75.0)]
        """
        unit = self.bins if self.decimals is None else 1
        boxes = []
        for match in self.pattern.finditer(text):
            x0, y0, x1, y1 = (float(value) / unit for value in match.groups())
            left, right = sorted((x0 * width, x1 * width))
            top, bottom = sorted((y0 * height, y1 * height))
            boxes.append((left, top, right, bottom))
        return boxes


def _pattern(number: str, before: str, between: str, after: str) -> re.Pattern[str]:
    return re.compile(rf"{before}\s*" + rf"\s*{between}\s*".join([number] * 4) + rf"\s*{after}")


_FRACTION, _WHOLE = r"(\d*\.?\d+)", r"(\d{1,4})"
BOXES: dict[str, BoxFormat] = {
    box.name: box
    for box in (
        BoxFormat(
            name="shikra",
            bins=1000,
            template="[{},{},{},{}]",
            pattern=_pattern(_FRACTION, r"\[", ",", r"\]"),
            decimals=3,
        ),
        BoxFormat(
            name="qwen-vl",
            bins=999,
            template="<box>({},{}),({},{})</box>",
            # The brackets between the points are optional here: only the first and last are asked for.
            pattern=_pattern(_WHOLE, r"\(", r"\)?,\s*\(?", r"\)"),
        ),
        BoxFormat(
            name="internvl",
            bins=1000,
            template="<box>[[{}, {}, {}, {}]]</box>",
            pattern=_pattern(_WHOLE, r"\[", ",", r"\]"),
        ),
        BoxFormat(
            name="minigpt-v2",
            bins=100,
            template="{{<{}><{}><{}><{}>}}",
            pattern=_pattern(_WHOLE, r"\{<", "><", r">\}"),
        ),
    )
}
"""Convention -> how it writes and reads boxes."""
