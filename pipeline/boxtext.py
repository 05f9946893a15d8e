"""Boxes spelt in text and found there again, whatever the convention.

`pipeline.grids` turns pixels into numbers; `pipeline.boxes` lists the published conventions.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.grids import Box, Grid

_NARROW = str.maketrans("，；：（）［］｛｝＜＞｜．０１２３４５６７８９", ",;:()[]{}<>|.0123456789")
"""Full-width punctuation and digits, which models of Chinese text write, one to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A box read from text."""

    box: Box
    """In pixels, inside the picture, corners in order."""
    start: int
    end: int
    """Where in the text its numbers stand."""
    clipped: bool
    """A coordinate lay outside the picture."""
    swapped: bool
    """Its corners were not in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFormat:
    """One convention: how boxes become numbers, and how numbers are spelt."""

    name: str
    grid: Grid
    box: str
    """Template of one box's numbers."""
    around: tuple[str, str, str]
    """What stands before the first box, between two, and after the last."""
    pattern: re.Pattern[str]
    """Finds one box; the groups of one of its branches are the numbers."""
    phrase: str = "{phrase} {boxes}"
    """How a phrase and the text of its boxes stand together; where `each`, with every one box."""
    each: str | None = None
    """What stands between a phrase's boxes, if every one comes with the phrase."""
    decimals: int | None = None
    """Numbers are written as fractions with so many decimals; None: as whole numbers."""
    zeros: bool = True
    """Whether a fraction keeps its last zeros."""

    @property
    def bins(self) -> int:
        """Least number of steps along a side."""
        return self.grid.bins

    def write(self, box: Sequence[float], width: int, height: int) -> str:
        """Return the text of a box in pixels, clipped to the picture.

        >>> from pipeline.boxes import BOXES
        >>> BOXES["shikra"].write((10, 25, 50, 75), 100, 100)
        '[0.100,0.250,0.500,0.750]'
        """
        return self.write_all([box], width, height)

    def write_all(self, boxes: Sequence[Sequence[float]], width: int, height: int) -> str:
        """Return the text of several boxes of one thing; of none: nothing.

        >>> from pipeline.boxes import BOXES
        >>> BOXES["internvl"].write_all([(10, 25, 50, 75), (0, 0, 9, 9)], 100, 100)
        '<box>[[100, 250, 500, 750], [0, 0, 90, 90]]</box>'
        """
        if not boxes:
            return ""
        before, between, after = self.around
        return before + between.join(self._numbers(b, width, height) for b in boxes) + after

    def say(self, phrase: str, boxes: Sequence[Sequence[float]], width: int, height: int) -> str:
        """Return a phrase with the boxes of what it names.

        >>> from pipeline.boxes import BOXES
        >>> BOXES["qwen-vl"].say("the mug", [(10, 25, 50, 75)], 100, 100)
        '<ref>the mug</ref><box>(100,250),(500,749)</box>'
        >>> BOXES["qwen2.5-vl"].say("the mug", [(64, 120, 320, 360)], 640, 480)
        '{"bbox_2d": [64, 119, 322, 357], "label": "the mug"}'
        """
        quoted = json.dumps(phrase, ensure_ascii=False)
        if self.each is None:
            whole = self.write_all(boxes, width, height)
            return self.phrase.format(phrase=phrase, boxes=whole) if boxes else phrase
        return (
            self.each.join(
                self.phrase.format(
                    phrase=phrase, quoted=quoted, box=self._numbers(box, width, height)
                )
                for box in boxes
            )
            or phrase
        )

    def _numbers(self, box: Sequence[float], width: int, height: int) -> str:
        return self.box.format(*(self._spelt(n) for n in self.grid.count(box, width, height)))

    def _spelt(self, number: int) -> str:
        if self.decimals is None:
            return str(number)
        text = f"{number / self.bins:.{self.decimals}f}"
        return text if self.zeros else f"{float(text):g}"

    def read(self, text: str, width: int, height: int) -> list[Box]:
        """Return the boxes in a text, in its order, in pixels, corners in order.

        >>> from pipeline.boxes import BOXES
        >>> BOXES["minigpt-v2"].read("2 cats, one at {<10><25><50><75>}", 200, 100)
        [(20.0, 25.0, 100.0, 75.0)]
        """
        return [found.box for found in self.find(text, width, height)]

    def find(self, text: str, width: int, height: int) -> list[Found]:
        """Return the boxes in a text with what had to be mended.

        Read leniently: spaces, a bracket missing on one side, other brackets, full-width
        punctuation, fractions where whole numbers are due.
        """
        found = []
        for match in self.pattern.finditer(text.translate(_NARROW)):
            spelt = [group for group in match.groups() if group is not None]
            numbers = [float(number) for number in spelt]
            if self.decimals is not None or ("." in "".join(spelt) and max(numbers) <= 1):
                numbers = [number * self.bins for number in numbers]
            x0, y0, x1, y1 = self.grid.place(numbers, width, height)
            left, right = (min(max(x, 0.0), float(width)) for x in sorted((x0, x1)))
            top, bottom = (min(max(y, 0.0), float(height)) for y in sorted((y0, y1)))
            found.append(
                Found(
                    box=(left, top, right, bottom),
                    start=match.start(),
                    end=match.end(),
                    clipped={left, right} != {x0, x1} or {top, bottom} != {y0, y1},
                    swapped=x0 > x1 or y0 > y1,
                )
            )
        return found


_NUMBER = r"(-?\d*\.?\d+)"
_MORE = r"(?!\.?\d|\s*,\s*-?\.?\d)"
"""What must not follow the fourth number: more of it, or a fifth."""


def numbers(opening: str = r"[\[(]", closing: str = r"[\])]") -> re.Pattern[str]:
    """Return what finds four numbers in brackets, `(x,y),(x,y)` too; one side's may be missing."""
    four = r"\s*[)\]]?\s*,\s*[(\[]?\s*".join([_NUMBER] * 4) + _MORE
    return re.compile(rf"{opening}\s*{four}|(?<![\d.,-])(?<!,\s){four}\s*{closing}")


def tokens(token: str, count: int = 4) -> re.Pattern[str]:
    """Return what finds so many of a token with a number in it, close together."""
    return re.compile(r"[\s,]*".join([token] * count))
