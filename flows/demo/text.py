"""CPython's help topics -> printed index pages, and instructions in words alone."""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flows.demo.canvas import SIDE, Pixels, Slip, Split, generator, paste, scans, scans_of

LINES = 3
FONT = 15
LONGEST = 9
"""Letters of a word on a page."""
SENTENCES = 4
"""Of a topic that become instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A printed page with one word a line and, below, a handwritten page number."""

    number: int
    lines: tuple[str, ...]
    slip: Slip
    pixels: Pixels
    """(SIDE, SIDE) grey."""


@cache
def topics() -> dict[str, str]:
    """Return the help topics of the running Python: name -> text."""
    from pydoc_data.topics import topics as found

    return dict(found)


@cache
def words() -> tuple[str, ...]:
    """Return the topics' names that fit on a line."""
    return tuple(name for name in topics() if name.isalpha() and len(name) <= LONGEST)


def page(seed: int, split: Split, number: int) -> Page:
    """Return an index page."""
    random = generator(seed, "page", split, number)
    picture = Image.new("L", (SIDE, SIDE), int(random.integers(235, 256)))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT)
    lines = [words()[i] for i in random.permutation(len(words()))[:LINES]]
    left = int(random.integers(3, 12))
    for place, line in enumerate(lines):
        draw.text((left, 3 + place * 20), line, fill=int(random.integers(0, 60)), font=font)
    pixels = np.array(picture)
    choice = scans_of(split)
    scan = choice[int(random.integers(len(choice)))]
    x0 = int(random.integers(0, SIDE - 30))
    slip = Slip(
        digit=scans()[1][scan],
        scan=scan,
        place="bottom",
        box=(x0, SIDE - 30, x0 + 28, SIDE - 2),
    )
    paste(pixels, slip, paper=int(pixels[-1, -1]))
    return Page(number=number, lines=tuple(lines), slip=slip, pixels=pixels)


@cache
def instructions() -> tuple[tuple[str, str], ...]:
    """Return (instruction, answer) pairs: the first plain sentences of every topic."""
    pairs = []
    for name, text in topics().items():
        prose = [" ".join(block.split()) for block in text.split("\n\n") if block[:1].isalpha()]
        sentences = [s for block in prose for s in re.split(r"(?<=\.) (?=[A-Z])", block)]
        plain = [s for s in sentences if s.endswith(".") and 20 < len(s) < 160]
        for number, sentence in enumerate(plain[:SENTENCES], start=1):
            pairs.append((f"Tell fact {number} about {name} in Python.", sentence))
    return tuple(pairs)
