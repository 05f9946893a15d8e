"""Ferret-UI: LLaVA dialogues on screenshots whose turns speak of boxes -> Record.

Format: https://github.com/apple/ml-ferret/tree/main/ferretui. `box_x1y1x2y2` has a list of boxes for each
turn, in pixels; `<bbox_location0>` in the text is the first of its turn, and becomes its mark.
"""

import re
from pathlib import Path
from typing import Any

from catalog.record import Region, region_mark
from pipeline.sources.base import Bad, Source, need, rest
from pipeline.sources.dialog import Dialog, dialog_of, turns_of
from pipeline.sources.each import reader, split_a_file
from pipeline.sources.regions import flags, xyxy

LICENSE = "CC BY-NC 4.0 [unverified], pictures of third parties"
BOXES = "box_x1y1x2y2"
_LOCATION = re.compile(r"<bbox_location(\d{1,4})>")


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Return a row's dialogue, with a mark for each location and a region for each box."""
    key, turns = turns_of(row)
    boxes = need(row, BOXES, list)
    if len(boxes) > len(turns):
        raise Bad("unequal_lists", f"{len(boxes)} lists of boxes for {len(turns)} turns")
    regions: list[Region] = []
    marked = []
    for turn, own in zip(turns, boxes + [[]] * (len(turns) - len(boxes)), strict=True):
        first = len(regions)
        regions += [_region(row, box) for box in need({BOXES: own}, BOXES, list)]
        marked.append(_marked(turn, first, len(regions) - first))
    dialog = dialog_of({**row, key: marked})
    extra = rest(dialog.extra, BOXES)
    if key in extra:
        extra[key] = turns
    return Dialog(
        messages=dialog.messages, images=dialog.images, regions=tuple(regions), extra=extra
    )


def _marked(turn: Any, first: int, count: int) -> Any:
    """Return a turn with its locations marked: its boxes are the record's from `first` on."""
    if not isinstance(turn, dict) or not isinstance(text := turn.get("value"), str):
        return turn
    for match in _LOCATION.finditer(text):
        if int(match[1]) >= count:
            raise Bad("bad_index", f"{match[0]} in a turn of {count} boxes")
    return {**turn, "value": _LOCATION.sub(lambda m: region_mark(first + int(m[1])), text)}


def _region(row: dict[str, Any], value: Any) -> Region:
    box = xyxy(value, BOXES)
    width, height = (
        side if type(side) in (int, float) else None
        for side in (row.get("image_w"), row.get("image_h"))
    )
    return Region(label="", box=box, extra=flags(box, width, height))


FERRET_UI = Source(
    name="ferret_ui",
    title="Ferret-UI",
    family="region",
    files=(f"*.json or *.jsonl with `{BOXES}`", "pictures as they name"),
    splits=split_a_file("*.json", "*.jsonl", keys=(BOXES,)),
    reader=reader("ferret_ui", LICENSE, say),
    license=LICENSE,
    homepage="https://github.com/apple/ml-ferret",
    note="known from the release's examples; the licence is unverified",
)
