"""Scanned handwritten digits -> pictures with known digits at known places.

Scans: the UCI optical digits in scikit-learn, 1,797 of 8 x 8 pixels. A scan is a slip of paper of its
own shade, laid on a darker desk; its box is the slip.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import UserError

Split = Literal["train", "val"]
Pixels = NDArray[np.uint8]
SIDE = 96
"""Of a canvas, in pixels."""
SLIP = (32, 42)
"""Smallest and largest side of a slip, in pixels."""
PLACES = ("top left", "top right", "bottom left", "bottom right")
HELD_OUT = 5
"""One scan of so many is kept for `val`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """One scan on a canvas."""

    digit: int
    scan: int
    """Its number in scikit-learn's data."""
    place: str
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A picture and what is on it, in reading order."""

    number: int
    slips: tuple[Slip, ...]
    pixels: Pixels
    """(SIDE, SIDE) grey."""

    @property
    def single(self) -> tuple[Slip, ...]:
        """The slips whose digit stands once on the canvas."""
        times = Counter(slip.digit for slip in self.slips)
        return tuple(slip for slip in self.slips if times[slip.digit] == 1)

    @property
    def text(self) -> str:
        """All digits in reading order."""
        return "".join(str(slip.digit) for slip in self.slips)


@cache
def scans() -> tuple[Pixels, tuple[int, ...]]:
    """Return the scans, (1797, 8, 8) with ink from 0 to 16, and the digit of each.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise UserError(
            "the demo takes its scans from scikit-learn", fix="pip install 'cuvee[demo]'"
        ) from error
    found = load_digits()
    return found.images.astype(np.uint8), tuple(int(digit) for digit in found.target)


@cache
def scans_of(split: Split) -> tuple[int, ...]:
    """Return the numbers of the scans that a split may show; no scan is in both."""
    order = np.random.default_rng(0).permutation(len(scans()[1]))
    held = len(order) // HELD_OUT
    return tuple(int(n) for n in (order[:held] if split == "val" else order[held:]))


def generator(*names: object) -> np.random.Generator:
    """Return random numbers that hang on names alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def scattered(seed: int, split: Split, number: int) -> Canvas:
    """Return a canvas with two to four slips, each somewhere in a quarter of its own."""
    random = generator(seed, "scattered", split, number)
    quarters = sorted(random.permutation(4)[: random.integers(2, 5)].tolist())
    return _draw(random, number, [_laid(random, split, quarter) for quarter in quarters])


def written(seed: int, split: Split, number: int) -> Canvas:
    """Return a canvas with two slips side by side, above or below, which are a number."""
    random = generator(seed, "written", split, number)
    first = 2 * int(random.integers(2))
    return _draw(random, number, [_laid(random, split, first + column) for column in (0, 1)])


def _laid(random: np.random.Generator, split: Split, quarter: int) -> Slip:
    """Return a slip somewhere in a quarter of the canvas; quarters count in reading order."""
    half, side = SIDE // 2, int(random.integers(SLIP[0], SLIP[1] + 1))
    x, y = (int(value) for value in random.integers(0, half - side + 1, 2))
    left, top = x + half * (quarter % 2), y + half * (quarter // 2)
    return _slip(random, split, PLACES[quarter], (left, top, left + side, top + side))


def _slip(
    random: np.random.Generator, split: Split, place: str, box: tuple[int, int, int, int]
) -> Slip:
    choice = scans_of(split)
    scan = choice[int(random.integers(len(choice)))]
    return Slip(digit=scans()[1][scan], scan=scan, place=place, box=box)


def _draw(random: np.random.Generator, number: int, slips: Sequence[Slip]) -> Canvas:
    desk = int(random.integers(90, 160))
    pixels = np.full((SIDE, SIDE), desk, np.uint8)
    for slip in slips:
        paste(pixels, slip, paper=int(random.integers(225, 256)))
    return Canvas(number=number, slips=tuple(slips), pixels=pixels)


def paste(pixels: Pixels, slip: Slip, *, paper: int) -> None:
    """Lay a slip on a canvas."""
    x0, y0, x1, y1 = slip.box
    ink = Image.fromarray(scans()[0][slip.scan] * 15)
    large = np.asarray(ink.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), np.int16)
    pixels[y0:y1, x0:x1] = np.clip(paper - large, 0, 255)
