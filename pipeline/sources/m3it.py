"""M3IT: forty tasks as instructions, pictures as base64 in the lines -> Record.

Format: https://huggingface.co/datasets/MMInstruction/M3IT. Pictures are read from their line when they are
needed. Fields beside the instruction differ between the tasks and are kept in `extra`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Bad, Item, Source, need, relative, rest
from pipeline.sources.files import json_lines
from pipeline.sources.origin import Origin, hidden, numbered

SPLITS = ("train", "val", "validation", "test")
PICTURES = "image_base64_str"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the files of all tasks: under the root, or `data/GROUP/TASK/` below it."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        patterns = (
            f"{split}.jsonl",
            f"*/{split}.jsonl",
            f"*/*/{split}.jsonl",
            f"data/*/*/{split}.jsonl",
        )
        files = sorted({file for pattern in patterns for file in root.glob(pattern)})
        if files:
            found[split] = tuple(files)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a line, task by task; lines are read one at a time."""
    for file in files:
        origin = Origin(source="m3it", split=split, file=relative(file, root), license=M3IT.license)
        yield from origin.items(numbered(json_lines(file)), _record)


def _record(origin: Origin, key: str, row: Any) -> Record:
    parts = [need(row, "instruction", str)]
    if not hidden(row, "inputs"):
        parts.append(need(row, "inputs", str))
    pictures = [] if hidden(row, PICTURES) else need(row, PICTURES, list)
    if not all(isinstance(picture, str) for picture in pictures):
        raise Bad("wrong_type", f"{PICTURES!r} holds something else than texts")
    task = re.sub(r"^data/|/?[^/]*$", "", origin.file)
    line = key.removeprefix("#")
    return origin.question(
        f"{task}/{line}" if task else line,
        "\n".join(parts),
        images=[
            ImageRef(path=origin.file, member=f"{line}:{PICTURES}.{k}")
            for k in range(len(pictures))
        ],
        target=None if hidden(row, "outputs") else need(row, "outputs", str),
        extra=rest(row, PICTURES, "outputs") | {"task": task},
    )


M3IT = Source(
    name="m3it",
    title="M3IT",
    family="reasoning",
    files=("data/*/*/{train,val,test}.jsonl",),
    splits=splits,
    reader=read,
    license="of each task's set",
    homepage="https://huggingface.co/datasets/MMInstruction/M3IT",
    note="Splits unite the tasks, which `extra` names",
)
