"""Boxes that a dialogue writes into its text -> regions, and marks where they stand.

A recipe can then write them in another convention. Only published spellings with tags are read:
Qwen-VL's and InternVL's `<ref>` and `<box>`, SVIT's `<st>` and `<ed>`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog.record import Message, Region, region_mark
from pipeline.sources.dialog import Dialog, turns_of
from pipeline.sources.regions import FRACTIONS, relative_box

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a release writes boxes into text."""

    convention: str
    """What the numbers mean: a name of `BOXES`, or fractions of the picture's sides."""
    most: float
    """Largest number that is a box's; a text with a larger one is left as it is."""
    pattern: re.Pattern[str]
    """Finds the boxes of one thing as `boxes`, with its name before them as `phrase`."""


_REF = r"(?:<ref>(?P<phrase>[^<]*)</ref>)?"
QWEN_VL = Spelling(
    convention="qwen-vl",
    most=1000,
    pattern=re.compile(_REF + r"(?P<boxes>(?:<box>\(\d+,\s?\d+\),\s?\(\d+,\s?\d+\)</box>)+)"),
)
INTERNVL = Spelling(
    convention="internvl",
    most=1000,
    pattern=re.compile(_REF + r"<box>(?P<boxes>\[(?:\[\d+(?:,\s*\d+){3}\](?:,\s*)?)+\])</box>"),
)
_FOUR = r"\[[01](?:\.\d+)?(?:,\s*[01](?:\.\d+)?){3}\]"
SVIT = Spelling(
    convention=FRACTIONS,
    most=1,
    pattern=re.compile(rf"<st>(?P<phrase>[^<]*)<ed>\s*(?P<boxes>{_FOUR}(?:,\s*{_FOUR})*)"),
)


def with_regions(said: Dialog, row: Mapping[str, Any], spelling: Spelling) -> Dialog:
    """Return a dialogue on one picture with the boxes of its text as regions.

    Ingest places them in pixels. `extra` keeps the turns as they were. With several pictures no
    spelling says which one is meant, so their boxes stay text.
    """
    if len(said.images) != 1:
        return said
    regions: list[Region] = []
    messages = tuple(_marked(message, spelling, regions) for message in said.messages)
    if not regions:
        return said
    key, turns = turns_of(row)
    return replace(said, messages=messages, regions=tuple(regions), extra=said.extra | {key: turns})


def _marked(message: Message, spelling: Spelling, regions: list[Region]) -> Message:
    """Return a message with marks for its boxes, whose regions are added to `regions`."""
    text, done = "", 0
    for match in spelling.pattern.finditer(message.content):
        numbers = [float(number) for number in _NUMBER.findall(match["boxes"])]
        if max(numbers) > spelling.most:
            continue
        text += message.content[done : match.start()]
        done = match.end()
        phrase = match["phrase"] or ""
        span = (len(text), len(text) + len(phrase)) if phrase else None
        first = len(regions)
        regions += [_region(phrase, span, box, spelling) for box in _fours(numbers)]
        text += phrase + region_mark(*range(first, len(regions)))
    return replace(message, content=text + message.content[done:])


def _fours(numbers: Sequence[float]) -> list[Sequence[float]]:
    return [numbers[first : first + 4] for first in range(0, len(numbers), 4)]


def _region(
    phrase: str, span: tuple[int, int] | None, box: Sequence[float], spelling: Spelling
) -> Region:
    return Region(label=phrase, box=None, span=span, extra=relative_box(box, spelling.convention))
