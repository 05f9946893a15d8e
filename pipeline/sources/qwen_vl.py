"""Fine-tuning files of Qwen-VL, pictures inside the text, and of Qwen2.5-VL -> Record.

Formats: https://github.com/QwenLM/Qwen-VL#finetuning,
https://github.com/QwenLM/Qwen2.5-VL/tree/main/qwen-vl-finetune

Qwen2.5-VL's packed files are arrays of arrays of rows: each row is a record, `extra` has its pack.
Its boxes, JSON in pixels of a picture that was resized, stay text; those of Qwen-VL are regions.
A picture given by an address is looked for under that very path.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE
from pipeline.sources import boxed
from pipeline.sources.base import Bad, Source, read_rows
from pipeline.sources.boxed import with_regions
from pipeline.sources.dialog import Dialog, dialog_of, local, turns_of
from pipeline.sources.each import reader, split_a_file

INLINE = re.compile(r"<img>(.*?)</img>", re.DOTALL)
LICENSE = "unstated: your own"


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row with its pictures beside the turns, or as `<img>path</img>` inside them."""
    return with_regions(dialog_of(inlined(row), at=local(root)), row, boxed.QWEN_VL)


def inlined(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose inline pictures stand under `images`, with marks in their places.

    >>> inlined({"conversations": [{"from": "user", "value": "Picture 1: <img>a.jpg</img> Hi"}]})
    {'conversations': [{'from': 'user', 'value': 'Picture 1: <image> Hi'}], 'images': ['a.jpg']}

    Raises:
        Bad: no turns, or `<image>` beside `<img>`.
    """
    if row.get("image") or row.get("images"):
        return row
    key, turns = turns_of(row)
    paths: list[str] = []
    marked = []
    for turn in turns:
        text = next((name for name in ("value", "content") if _inline(turn, name)), None)
        if text is not None:
            if IMAGE in turn[text]:
                raise Bad("placeholder_mismatch", f"{IMAGE} beside <img>…</img>")
            paths += [path.strip() for path in INLINE.findall(turn[text])]
            turn = turn | {text: INLINE.sub(IMAGE, turn[text])}
        marked.append(turn)
    return row | {key: marked, "images": paths} if paths else row


def _inline(turn: Any, name: str) -> bool:
    text = turn.get(name) if isinstance(turn, dict) else None
    return isinstance(text, str) and INLINE.search(text) is not None


def _rows(root: Path, file: Path) -> Iterator[Any]:
    for position, row in enumerate(read_rows(file)):
        if not isinstance(row, list):
            yield row
            continue
        for number, packed in enumerate(row):
            if isinstance(packed, dict):
                yield {"id": f"{position}.{number}"} | packed | {"pack": position}
            else:
                yield Bad("wrong_type", f"row {number} of pack {position} is no object")


QWEN_VL = Source(
    name="qwen_vl",
    title="Qwen-VL and Qwen2.5-VL fine-tuning",
    family="instruction",
    files=("*.json or *.jsonl with `conversations`", "pictures at the paths they name"),
    splits=split_a_file("*.json", "*.jsonl", keys=("conversations", "messages")),
    reader=reader("qwen_vl", LICENSE, say, _rows),
    license=LICENSE,
    homepage="https://github.com/QwenLM/Qwen-VL",
    note="Videos are refused",
)
