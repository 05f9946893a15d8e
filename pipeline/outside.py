"""Boxes that leave their picture: flagged, set aside, or reason to refuse the record.

A box that passes an edge by more than rounding is kept as given and flagged `outside_picture` while
half of it or more lies inside. Of any other only the region stays, without a place: what it had goes
to its `extra` under `set_aside`, with the reason, and a refusal counts it; where an answer lists or
names it, the answer goes on without its box. The whole record is refused where the box is what is
asked or answered, and where most of its boxes pass the edges: then they were drawn on another picture.
Regions that their own release flags are kept as they are, but never an answer with nothing inside.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from catalog.record import REGION_MARK, Record, Refusal, Region
from pipeline.items import refusal_of
from pipeline.limits import BOX_TOLERANCE, Refused
from pipeline.sources.regions import readable

INSIDE = 0.5
"""Least share of a box that lies in its picture."""


def settled(record: Record, sizes: Sequence[tuple[int, int]]) -> tuple[Record, tuple[Refusal, ...]]:
    """Return the record with boxes that stand in its pictures, and a refusal for each set aside.

    `sizes` are the displayed (width, height) of its pictures, in pixels.

    Raises:
        Refused: `bad_box`, `box_outside_picture`.
    """
    regions, boxes = list(record.regions), 0
    passing: list[Refused] = []
    aside: dict[int, Refused] = {}
    for place, region in enumerate(record.regions):
        if region.box is None:
            continue
        boxes += 1
        x0, y0, x1, y1 = region.box
        width, height = sizes[region.image]
        edge = BOX_TOLERANCE
        if x0 >= -edge and y0 >= -edge and x1 <= width + edge and y1 <= height + edge:
            continue  # no comparison with NaN is true
        share = _inside(region.box, width, height)
        where = f"region {region.label!r}: box {region.box} on a picture of {width} x {height}"
        if region.extra.get("outside_picture") and share is not None:
            if not share and _is_said(record, place):
                aside[place] = Refused("box_outside_picture", where)
            continue  # The release itself says so; a wrong picture would not agree with it.
        finite = share is not None
        passing.append(Refused("box_outside_picture" if finite else "bad_box", where))
        if share is None or share < INSIDE:
            aside[place] = passing[-1]
        else:
            regions[place] = replace(region, extra={**region.extra, "outside_picture": True})
    if 2 * len(passing) > boxes:
        raise passing[0]
    if not passing and not aside:
        return record, ()
    answered = any(message.role == "assistant" for message in record.messages)
    if aside and record.task == "grounding" and not answered:
        raise next(iter(aside.values()))
    messages = record.messages
    if aside:
        messages = tuple(
            message
            if not REGION_MARK.search(message.content)
            else replace(
                message, content=_without(message.content, message.role, record.regions, aside)
            )
            for message in messages
        )
    for place, reason in aside.items():
        regions[place] = _placeless(record.regions[place], reason)
    refusals = tuple(
        replace(refusal_of(record, reason), record=f"{record.native_id}/region {place}")
        for place, reason in aside.items()
    )
    return replace(record, messages=messages, regions=tuple(regions)), refusals


def _inside(box: Sequence[float], width: int, height: int) -> float | None:
    """Return the share of a box that lies in the picture; None where a number is not finite.

    >>> _inside((30, 0, 50, 10), 40, 30), _inside((50, 0, 50, 10), 40, 30)
    (0.5, 0.0)
    """
    if not all(map(math.isfinite, box)):
        return None
    shares = []
    for low, high, side in ((box[0], box[2], width), (box[1], box[3], height)):
        low, high = sorted((low, high))
        within = min(high, side) - max(low, 0)
        # A line has no length to share: it is in, or out.
        shares.append(max(within, 0) / (high - low) if high > low else float(within >= 0))
    return shares[0] * shares[1]


def _is_said(record: Record, place: int) -> bool:
    marks = [m for message in record.messages for m in REGION_MARK.findall(message.content)]
    if not marks:
        return record.task == "grounding" and record.messages[-1].role == "user"
    return any(str(place) in mark.split(",") for mark in marks)


def _placeless(region: Region, reason: Refused) -> Region:
    # JSON has no word for what is not finite.
    box = str(region.box) if reason.reason == "bad_box" else region.box
    kept = {"reason": reason.reason, "box": box, "polygons": region.polygons}
    return replace(region, box=None, polygons=(), extra={**region.extra, "set_aside": kept})


def _without(
    content: str, role: str, regions: Sequence[Region], aside: Mapping[int, Refused]
) -> str:
    """Return a message without the marks that have lost all their boxes.

    A line of a list goes; a name stays, without its mark; a mark behind its own phrase reads as the
    phrase.

    Raises:
        Refused: the box is asked for, or says the answer alone.
    """
    pieces, done = [], 0
    for match in REGION_MARK.finditer(content):
        places = [int(place) for place in match[1].split(",")]
        lost = [place for place in places if place in aside]
        if not lost:
            continue
        if role != "assistant":
            raise aside[lost[0]]
        named = regions[places[0]]
        left = [p for p in places if p not in aside and p < len(regions) and regions[p].box]
        start, end = named.span or (0, 0)
        if left or (start < end <= match.start() and not content[end : match.start()].strip()):
            continue
        line = content.rfind("\n", 0, match.start()) + 1
        before, after = content[line : match.start()], content[match.end() :]
        if any(region.span for region in regions):
            raise aside[lost[0]]  # What is cut out would move the phrases.
        if before.endswith(": ") and after[:1] in ("", "\n"):
            pieces.append(content[done:line])
            done = match.end() + 1
        elif named.label and before.rstrip().endswith((named.label, readable(named.label))):
            pieces.append(content[done : match.start()].rstrip())
            done = match.end()
        else:
            raise aside[lost[0]]
    text = "".join([*pieces, content[done:]])
    if done and not text.strip():
        raise next(iter(aside.values()))
    return text.removesuffix("\n") if done else text
