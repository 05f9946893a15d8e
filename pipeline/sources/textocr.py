"""TextOCR and COCO-Text: the words in a picture with their outlines -> Record.

Formats: https://textvqa.org/textocr/dataset and https://bgshih.github.io/cocotext
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    first_folder,
    need,
    read_json,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.regions import xywh
from pipeline.sources.rows import records
from pipeline.sources.words import outline, page, transcript, word

SPLITS = ("train", "val", "test")
LICENSE = "CC BY 4.0"
COCO = ("train2014", "images/train2014", "coco/train2014")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What tells one release from the other."""

    source: str
    outlines: tuple[str, ...]
    """Fields that may hold a word's polygon."""


TEXTOCR_FORM = Form(source="textocr", outlines=("points",))
# Version 1 says `polygon`, version 2 `mask`.
COCOTEXT_FORM = Form(source="cocotext", outlines=("mask", "polygon"))


def textocr_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its newest file."""
    found = {split: sorted(root.glob(f"TextOCR_*_{split}.json")) for split in SPLITS}
    return {split: (files[-1],) for split, files in found.items() if files}


def cocotext_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the three splits of one file: a picture says which it is of."""
    names = ("cocotext.v2.json", "COCO_Text.json")
    file = next((root / name for name in names if (root / name).exists()), None)
    return dict.fromkeys(SPLITS, (file,)) if file else {}


def read(form: Form, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, also without words, in file order; then the words of no picture."""
    content, name = read_json(files[0]), relative(files[0], root)
    pictures, words = (_table(content, key, files[0]) for key in ("imgs", "anns"))
    listed = content.get("imgToAnns")
    of_picture: defaultdict[str, list[Any]] = defaultdict(list)
    for annotation in words.values():
        if isinstance(annotation, dict):
            of_picture[str(annotation.get("image_id"))].append(annotation)
    rows = [
        {"key": key, "picture": picture, "words": of_picture[key]}
        | ({"listed": listed[key]} if isinstance(listed, dict) and key in listed else {})
        for key, picture in pictures.items()
        if form is TEXTOCR_FORM or _split(picture) == split
    ]
    folder = first_folder(root, COCO, COCO[0])
    yield from records(
        form.source, split, name, rows, partial(_record, form, split, name, folder), key="key"
    )
    if split == next(iter(SPLITS)) or form is TEXTOCR_FORM:
        for key, annotation in words.items():
            own = annotation.get("image_id") if isinstance(annotation, dict) else None
            if str(own) not in pictures:
                alone = Bad("no_image_entry", f"the word is on picture {own!r:.80}, not in 'imgs'")
                yield refusal(form.source, split, name, key, alone)


def _table(content: Any, key: str, file: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), dict):
        raise DataError(f"no object {key!r}", file=file, fix="take the official file")
    table: dict[str, Any] = content[key]
    return table


def _split(picture: Any) -> str:
    """Return a picture's split; one without is read, and refused, with the first."""
    own = picture.get("set") if isinstance(picture, dict) else None
    return own if own in SPLITS else SPLITS[0]


def _record(form: Form, split: str, file: str, folder: str, position: int, row: Any) -> Record:
    picture = need(row, "picture", dict)
    if form is COCOTEXT_FORM and need(picture, "set", str) not in SPLITS:
        raise Bad("unknown_split", f"'set' is {picture['set']!r}, expected one of {SPLITS}")
    if "listed" in row:
        there = {str(word.get("id")) for word in row["words"]}
        if lost := [k for k in need(row, "listed", list) if str(k) not in there]:
            raise Bad("no_annotation", f"'imgToAnns' lists {lost[0]!r:.80}, not in 'anns'")
    regions = tuple(_region(form, word) for word in row["words"])
    return page(
        source=form.source,
        split=split,
        native_id=row["key"],
        image=ImageRef(path=_image(form, folder, need(picture, "file_name", str))),
        text=transcript(regions),
        regions=regions,
        license=LICENSE,
        extra=picture,
        file=file,
    )


def _image(form: Form, folder: str, name: str) -> str:
    """Return a picture's path: TextOCR writes `train/` for the folder `train_images/` of TextVQA."""
    if form is COCOTEXT_FORM:
        return safe(f"{folder}/{name}")
    given, slash, stem = safe(name).partition("/")
    if not slash:
        return f"train_images/{given}"
    return f"{'test' if given == 'test' else 'train'}_images/{stem}"


def _region(form: Form, annotation: dict[str, Any]) -> Region:
    text = annotation.get("utf8_string", "")
    if not isinstance(text, str):
        raise Bad("wrong_type", f"'utf8_string' is {text!r:.80}, expected str")
    illegible = text == "." if form is TEXTOCR_FORM else annotation.get("legibility") != "legible"
    box = xywh(need(annotation, "bbox", list)) if "bbox" in annotation else None
    taken, polygon = ["utf8_string", "bbox"], None
    for key in form.outlines:
        points = annotation.get(key)
        # Masks of COCO-Text may be too short or of odd length: then the box has to do.
        if isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0:
            polygon = outline(points)
            taken.append(key)
    return word(
        text,
        polygon=polygon,
        box=box,
        ignore=illegible or not text.strip(),
        extra=rest(annotation, *taken),
    )


TEXTOCR = Source(
    name="textocr",
    title="TextOCR",
    family="ocr",
    files=(
        "TextOCR_0.1_{train,val,test}.json",
        "{train_images,test_images}/*.jpg (those of TextVQA)",
    ),
    splits=textocr_splits,
    reader=partial(read, TEXTOCR_FORM),
    license=LICENSE,
    homepage="https://textvqa.org/textocr",
    official={"train": 21_778, "val": 3_124, "test": 3_232},
)
COCOTEXT = Source(
    name="cocotext",
    title="COCO-Text",
    family="ocr",
    files=("cocotext.v2.json (or COCO_Text.json)", "train2014/COCO_train2014_*.jpg"),
    splits=cocotext_splits,
    reader=partial(read, COCOTEXT_FORM),
    license=LICENSE,
    homepage="https://bgshih.github.io/cocotext",
)
