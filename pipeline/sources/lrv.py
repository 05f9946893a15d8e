"""LRV-Instruction: positive and negative instructions on Visual Genome pictures and charts -> Record.

Format: https://github.com/FuxiaoLiu/LRV-Instruction. Some files wrap the list in an object, or are written
as Python lists; both are read. A record has no id: its place is its id.
"""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import DataError
from catalog.record import Record
from pipeline.sources.base import (
    Item,
    Source,
    is_conversation_file,
    need,
    read_json,
    relative,
    rest,
    safe,
)
from pipeline.sources.origin import Origin, hidden, numbered
from pipeline.sources.plain import plain
from pipeline.sources.rows import read_text

FOLDERS = ("image", "images", "VG_100K", "VG_100K_2")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each file as a split of its own, named by its stem."""
    files = sorted(root.glob("*.json"))
    return {
        file.stem: (file,)
        for file in files
        if is_conversation_file(file, ("image_id",)) or _python(file)
    }


def _python(file: Path) -> bool:
    """Tell a file that is written as Python has it, with single quotes."""
    with file.open("rb") as stream:
        return b"'image_id'" in stream.read(65_536)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an instruction, in file order."""

    python = _python(files[0])

    def record(origin: Origin, key: str, given: Any) -> Record:
        row = plain(given) if python else given
        image_id = need(row, "image_id", (str, int))
        name = str(image_id) if PurePosixPath(str(image_id)).suffix else f"{image_id}.jpg"
        paths = [safe(f"{folder}/{name}") for folder in FOLDERS]
        return origin.question(
            key,
            need(row, "question", str),
            images=[next((path for path in paths if (root / path).is_file()), paths[0])],
            target=None if hidden(row, "answer") else need(row, "answer", str),
            extra=rest(row, "question", "answer"),
        )

    origin = Origin(source="lrv", split=split, file=relative(files[0], root), license=LRV.license)
    yield from origin.items(numbered(_rows(files[0])), record)


def _rows(file: Path) -> list[Any]:
    content = _literal(file) if _python(file) else read_json(file)
    while isinstance(content, dict) and len(content) == 1:
        content = next(iter(content.values()))
    if not isinstance(content, list):
        kind = type(content).__name__
        raise DataError(f"a {kind}, not a list", file=file, fix="take the official file")
    return content


def _literal(file: Path) -> Any:
    """Return a Python literal; nothing in it is run."""
    try:
        return ast.literal_eval(read_text(file))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(
            f"neither JSON nor a Python list: {error}", file=file, fix="download the file again"
        ) from error


LRV = Source(
    name="lrv",
    title="LRV-Instruction",
    family="reasoning",
    files=("filter_cap.json, filter_cap_more*.json", "image/*.jpg (Visual Genome, or charts)"),
    splits=splits,
    reader=read,
    license="BSD-3-Clause, pictures of their sets",
    homepage="https://github.com/FuxiaoLiu/LRV-Instruction",
)
