"""All-Seeing V2 conversations (AS-V2): relations grounded in text -> Record.

Format: https://github.com/OpenGVLab/all-seeing. Boxes stand in the text as whole numbers to 999;
here each becomes a region, and its place in the text a mark, so that a recipe may write it in any
convention; `<pred>` tags stay, with the marks of subjects and objects behind them. The text as it
came is in `extra`. No row tells its picture's size: ingest places the boxes once it is measured.
The mixtures count on the picture padded to a square, rel_conversation.json does not (its boxes
are PSG's to the digit); for other files that is not verified, and they are read like the latter.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import Message, Region, region_mark
from pipeline.sources.base import Item, Source
from pipeline.sources.dialog import TURNS, Dialog, dialog_of
from pipeline.sources.each import reader, split_a_file
from pipeline.sources.regions import relative_box

LICENSE = "Apache-2.0 annotations, pictures under their own"
SQUARE = ("as_mix", "as_pretrain", "llava_v1_5_mix665k_asmv2")
"""Beginnings of the files whose boxes are on the padded square."""
_TOKEN = re.compile(
    r"<(?P<tag>ref|pred)>(?P<words>(?:(?!<(?:ref|pred)>).)*?)</(?P<closed>ref|pred)>"
    r"|<box>(?P<boxes>[\s\d\[\],.;-]*)</box>",
    re.DOTALL,
)
_FOUR = re.compile(r"\[\s*" + r"\s*,\s*".join([r"(-?\d+)"] * 4) + r"\s*\]")


class Reading:
    """Regions found so far in one conversation, and what was odd about its text."""

    def __init__(self, square: bool) -> None:
        self.convention = "as-v2-square" if square else "as-v2"
        self.regions: list[Region] = []
        self.relations: list[dict[str, Any]] = []
        self.odd: list[str] = []

    def message(self, message: Message) -> Message:
        """Return a message with marks for its boxes, and gather its regions."""
        text, done = "", 0
        phrase: tuple[str, tuple[int, int]] | None = None
        relation: dict[str, Any] | None = None
        for token in _TOKEN.finditer(message.content):
            between = message.content[done : token.start()]
            done = token.end()
            text += between
            if between.strip():
                phrase = None
            if between.strip() or token["tag"]:
                self._keep(relation)
                relation = None
            if token["tag"]:
                if token["closed"] != token["tag"]:
                    self.odd.append(f"wrong closing tag: {token[0]:.60}")
                if token["tag"] == "ref":
                    phrase = token["words"], (len(text), len(text) + len(token["words"]))
                    text += token["words"]
                else:
                    phrase, relation = None, {"predicate": token["words"]}
                    text += f"<pred>{token['words']}</pred>"
                continue
            places = self._places(token["boxes"], phrase, relation)
            role = _role(relation)
            if relation is not None and role is not None:
                relation[role] = places
            if places:
                text += (" " if phrase else "") + region_mark(*places)
            phrase = None
        self._keep(relation)
        text += message.content[done:]
        if "<box>" in text or "<ref>" in text:
            self.odd.append("a tag that does not close stays in the text")
        return replace(message, content=text)

    def _places(
        self, boxes: str, phrase: tuple[str, tuple[int, int]] | None, relation: object
    ) -> list[int]:
        """Return the regions of a group of boxes; those of a predicate were often named before."""
        found = [[int(number) for number in four.groups()] for four in _FOUR.finditer(boxes)]
        if not found:
            self.odd.append("an empty box" if not boxes.strip("[] \n") else f"no box: {boxes:.60}")
        places = []
        for four in found:
            known = next(
                (at for at, region in enumerate(self.regions) if region.extra["bbox"] == four), None
            )
            if relation is None or known is None:
                label, span = phrase or ("", None)
                extra = relative_box(four, self.convention)
                known = len(self.regions)
                self.regions.append(Region(label=label, box=None, span=span, extra=extra))
            places.append(known)
        return places

    def _keep(self, relation: dict[str, Any] | None) -> None:
        """Keep a relation that had its boxes; of unequal lists, a single one goes with all."""
        if relation is None:
            return
        subjects, objects = relation.get("subjects", []), relation.get("objects", [])
        if len(subjects) != len(objects) and 1 not in (len(subjects), len(objects)):
            self.odd.append(f"{len(subjects)} subjects and {len(objects)} objects")
        self.relations.append({"subjects": subjects, "objects": objects} | relation)


def _role(relation: dict[str, Any] | None) -> str | None:
    if relation is None:
        return None
    return next((role for role in ("subjects", "objects") if role not in relation), None)


def say(square: bool, root: Path, row: dict[str, Any]) -> Dialog:
    """Return a row's dialogue, its boxes as regions; without a picture its text stays as it is."""
    dialog = dialog_of(row)
    if not dialog.images:
        return dialog
    reading = Reading(square)
    messages = tuple(reading.message(message) for message in dialog.messages)
    extra = dict(dialog.extra)
    if messages != dialog.messages:
        extra |= {key: row[key] for key in TURNS if isinstance(row.get(key), list)}
    if reading.relations:
        extra["relations"] = reading.relations
    if reading.odd:
        extra["odd_markup"] = reading.odd
    return replace(dialog, messages=messages, regions=tuple(reading.regions), extra=extra)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, in file order."""
    square = split.startswith(SQUARE)
    yield from reader("as_v2", LICENSE, partial(say, square))(root, split, files)


AS_V2 = Source(
    name="as_v2",
    title="All-Seeing V2",
    family="region",
    files=("*.json with `conversations`, such as rel_conversation.json", "pictures as they name"),
    splits=split_a_file("*.json", "*.jsonl", keys=TURNS),
    reader=read,
    license=LICENSE,
    homepage="https://github.com/OpenGVLab/all-seeing",
    note=(
        "which files count on the square-padded picture is verified for "
        "rel_conversation.json alone; boxes become pixels at ingest"
    ),
)
