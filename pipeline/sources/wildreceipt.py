"""WildReceipt: receipts with the text and the class of each box -> Record.

Format: https://github.com/open-mmlab/mmocr. A line of JSON a picture; `class_list.txt` names the classes.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import (
    Item,
    Source,
    is_conversation_file,
    need,
    read_rows,
    relative,
    rest,
    safe,
)
from pipeline.sources.delimited import lines_of
from pipeline.sources.rows import read_text, records
from pipeline.sources.words import outline, page, transcript, word

LICENSE = "unclear: none stated"
CLASSES = "class_list.txt"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (annotations,) or (annotations, classes)."""
    found = {split: root / f"{split}.txt" for split in ("train", "test")}
    classes = tuple(file for file in (root / CLASSES,) if file.exists())
    return {
        split: (file, *classes)
        for split, file in found.items()
        if file.exists() and is_conversation_file(file, ("annotations",))
    }


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in file order."""
    name = relative(files[0], root)
    record = partial(_record, split, name, _classes(files[1:]))
    yield from records("wildreceipt", split, name, read_rows(files[0]), record, key="file_name")


def _classes(files: tuple[Path, ...]) -> dict[str, str]:
    """Return number -> name of the classes, as lines `1 Store_name_value` say."""
    lines = [line.split(maxsplit=1) for file in files for line in lines_of(read_text(file))]
    return {cells[0]: cells[1].strip() for cells in lines if len(cells) == 2}


def _record(split: str, file: str, classes: Mapping[str, str], position: int, row: Any) -> Record:
    name = safe(need(row, "file_name", str))
    regions = [_region(box, classes) for box in need(row, "annotations", list)]
    return page(
        source="wildreceipt",
        split=split,
        native_id=name,
        image=ImageRef(path=name),
        text=transcript(regions),
        regions=regions,
        license=LICENSE,
        extra=rest(row, "file_name", "annotations"),
        file=file,
    )


def _region(box: Any, classes: Mapping[str, str]) -> Region:
    text, polygon = need(box, "text", str), outline(need(box, "box", list))
    said = classes.get(str(box.get("label")))
    extra = rest(box, "text", "box") | ({"class": said} if said else {})
    return word(text, polygon=polygon, extra=extra)


WILDRECEIPT = Source(
    name="wildreceipt",
    title="WildReceipt",
    family="ocr",
    files=("{train,test}.txt, lines of JSON with `annotations`", CLASSES, "image_files/**/*.jpeg"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/open-mmlab/mmocr",
    official={"train": 1_268, "test": 472},
    unverified=("train", "test"),
)
