"""Osprey-724K region dialogues, and its evaluation rows -> Record.

Format: https://github.com/CircleRadon/Osprey. `<region1>` in a text is the first annotation; the
one `<region>` of an evaluation row its only one. Both become marks; masks stay as they came.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog.record import Region, region_mark
from pipeline.sources.base import Bad, Source, need, read_rows, rest
from pipeline.sources.dialog import Dialog, dialog_of
from pipeline.sources.each import reader, split_a_file
from pipeline.sources.regions import flags, segmentation, xywh

LICENSE = "CC BY-NC 4.0 [unverified], pictures of COCO and Visual Genome under their own"
PLACE = "idx"
"""Field that gives an evaluation row the id that dialogues have."""
_REGION = re.compile(r"<region(\d{0,4})>")


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Return a row's dialogue with its regions."""
    picture = need(row, "image" if "file_name" not in row else "file_name", str)
    turns = row
    if "conversations" not in row and "text" in row:
        turns = row | {"conversations": [{"from": "human", "value": need(row, "text", str)}]}
    given = row.get("annotation")
    annotations = given if isinstance(given, list) else [need(row, "annotation", dict)]
    dialog = dialog_of({**turns, "image": picture})
    regions = tuple(_region(annotation, row) for annotation in annotations)
    messages = []
    for message in dialog.messages:
        for match in _REGION.finditer(message.content):
            if not 1 <= int(match[1] or 1) <= len(regions):
                raise Bad("bad_index", f"{match[0]} of {len(regions)} annotations")
        text = _REGION.sub(lambda match: region_mark(int(match[1] or 1) - 1), message.content)
        messages.append(replace(message, content=text))
    extra = rest(dialog.extra, "annotation", PLACE)
    if "conversations" not in row:
        extra.pop("conversations", None)
    return replace(dialog, messages=tuple(messages), regions=regions, extra=extra)


def _region(annotation: Any, row: dict[str, Any]) -> Region:
    box = xywh(need(annotation, "bbox", list))
    size = [row.get(side) for side in ("width", "height")]
    known = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    label = annotation.get("category", annotation.get("label", ""))
    return Region(
        label=label if isinstance(label, str) else "",
        box=box,
        **segmentation(annotation.get("segmentation")),
        extra=rest(annotation, "bbox", "segmentation")
        | flags(box, *(size if known else (None, None))),
    )


def _rows(root: Path, file: Path) -> Iterator[Any]:
    """Yield rows; an evaluation row's id is its `question_id`."""
    for row in read_rows(file):
        own = isinstance(row, dict) and "id" not in row and "question_id" in row
        yield {**row, PLACE: row["question_id"]} if own else row


OSPREY = Source(
    name="osprey",
    title="Osprey-724K",
    family="region",
    files=("*.json with `annotation` and `conversations`", "pictures as they name"),
    splits=split_a_file("*.json", "*.jsonl", keys=("annotation",)),
    reader=reader("osprey", LICENSE, say, _rows),
    license=LICENSE,
    homepage="https://github.com/CircleRadon/Osprey",
    note="the licence is unverified",
)
