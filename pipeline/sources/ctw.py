"""CTW, Chinese Text in the Wild: sentences of characters -> Record.

Format: https://ctwdataset.github.io/tutorial
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import Item, Source, need, read_json, read_rows, relative, rest, safe
from pipeline.sources.regions import xywh
from pipeline.sources.rows import records
from pipeline.sources.words import around, outline, page, transcript, word

LICENSE = "CC BY-NC-SA 4.0"
SPLITS = ("train", "val", "test_cls")
FOLDERS = ("images/trainval", "images/test", "images", "trainval", "test", "")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its lines; and `test_det`, of which `info.json` has the pictures alone."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        places = (root / f"{split}.jsonl", root / "annotations" / f"{split}.jsonl")
        if file := next((place for place in places if place.exists()), None):
            found[split] = (file,)
    info = next(
        (f for f in (root / "info.json", root / "annotations/info.json") if f.exists()), None
    )
    return found | ({"test_det": (info,)} if info else {})


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in file order."""
    rows: Any = read_rows(files[0]) if split in SPLITS else _pictures(read_json(files[0]), split)
    name = relative(files[0], root)
    record = partial(_record, root, split, name)
    return records("ctw", split, name, rows, record, key="image_id")


def _pictures(info: Any, split: str) -> list[Any]:
    pictures = info.get(split) if isinstance(info, dict) else None
    return pictures if isinstance(pictures, list) else []


def _record(root: Path, split: str, file: str, position: int, row: Any) -> Record:
    key, name = need(row, "image_id", str), safe(need(row, "file_name", str))
    sentences = need(row, "annotations", list) if "annotations" in row else []
    lines = [_line(need({"sentence": s}, "sentence", list), n) for n, s in enumerate(sentences)]
    regions = [region for line in lines for region in line]
    for ignored in need(row, "ignore", list) if "ignore" in row else []:
        regions.append(_area(ignored, "ignore", ignore=True))
    for proposal in need(row, "proposals", list) if "proposals" in row else []:
        regions.append(_area(proposal, "proposal"))
    places = [f"{folder}/{name}" if folder else name for folder in FOLDERS]
    return page(
        source="ctw",
        split=split,
        native_id=key,
        image=ImageRef(path=next((p for p in places if (root / p).exists()), places[0])),
        text=transcript([line[0] for line in lines if line]),
        regions=regions,
        license=LICENSE,
        extra=rest(row, "annotations", "ignore", "proposals"),
        file=file,
    )


def _line(characters: list[Any], number: int) -> list[Region]:
    """Return the region of a sentence, then those of its characters, also of the not Chinese."""
    if not characters:
        return []
    parts = [_area(c, "char", label=need(c, "text", str), line=number) for c in characters]
    corners = [value for c in characters for value in outline(need(c, "polygon", list))]
    text = "".join(part.label for part in parts)
    return [word(text, box=around(corners), extra={"level": "line", "line": number}), *parts]


def _area(item: Any, level: str, *, label: str = "", ignore: bool = False, **more: int) -> Region:
    """Return the region of a character, of a part to ignore, or of a proposal."""
    given = need({level: item}, level, dict)
    polygon = outline(need(given, "polygon", list)) if "polygon" in given else None
    box = xywh(given["bbox"]) if "bbox" in given else None
    return word(
        label,
        polygon=polygon,
        box=box,
        ignore=ignore,
        extra=rest(given, "polygon", "bbox", *(["text"] if label else []))
        | {"level": level}
        | more,
    )


CTW = Source(
    name="ctw",
    title="CTW, Chinese Text in the Wild",
    family="ocr",
    files=(
        "annotations/{train,val,test_cls}.jsonl",
        "annotations/info.json",
        "images/{trainval,test}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://ctwdataset.github.io",
)
