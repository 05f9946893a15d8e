"""Phrases of a text that have boxes: marks put behind them, and their spans in the marked text."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from catalog.record import region_mark

GROUND = "Describe the picture in one sentence, with the boxes of what you name."
Span = tuple[int, int]
"""First character, and the one behind the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A text with region marks in it."""

    text: str
    places: list[int] = field(default_factory=list)
    """Where marks were put in, in the text before."""
    grown: list[int] = field(default_factory=lambda: [0])
    """Characters put in before the first of these places, before the second, ... and in all."""

    def moved(self, span: Span) -> Span:
        """Return where a span of the text before stands now.

        >>> marked([(6, 7, (0,))], "a and b, c").moved((9, 10))
        (20, 21)
        """
        start, end = span
        return (
            start + self.grown[bisect_right(self.places, start)],
            end + self.grown[bisect_left(self.places, end)],
        )


def marked(phrases: Iterable[tuple[int, int, Sequence[int]]], text: str) -> Marked:
    """Put a mark behind each phrase (start, end, places of its regions); phrases do not overlap.

    >>> marked([(6, 7, (0,)), (0, 1, (1, 2))], "a and b").text
    'a <region:1,2> and b <region:0>'
    """
    pieces, done = [], 0
    places, grown = [], [0]
    for _, end, regions in sorted(phrases):
        mark = f" {region_mark(*regions)}"
        pieces += [text[done:end], mark]
        done = end
        places.append(end)
        grown.append(grown[-1] + len(mark))
    return Marked(text="".join([*pieces, text[done:]]), places=places, grown=grown)


def outermost(spans: Iterable[Span]) -> list[Span]:
    """Return the spans that no other contains; of two that overlap, the earlier.

    >>> outermost([(0, 13), (0, 66), (19, 32), (60, 70), (80, 90)])
    [(0, 66), (80, 90)]
    """
    kept: list[Span] = []
    for start, end in sorted(set(spans), key=lambda span: (span[0], -span[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept
