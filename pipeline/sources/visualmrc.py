"""VisualMRC: abstractive questions on screenshots of web pages, with their layout -> Record.

Format: https://github.com/nttmdlab-nlp/VisualMRC
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    need,
    read_rows,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.regions import xywh
from pipeline.sources.rows import as_text, asked, records
from pipeline.sources.words import word

LICENSE = "NTT licence, research only"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file; older releases say `.json`."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "dev", "test"):
        places = [root / f"{split}{ending}" for ending in (".jsonl", ".json")]
        if file := next((place for place in places if place.exists()), None):
            found[split] = (file,)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture."""
    name = relative(files[0], root)
    for position, row in enumerate(read_rows(files[0])):
        key: object = f"#{position}"
        try:
            if isinstance(row, Bad):
                raise row
            key = need(row, "id", (str, int))
            image = safe(need(row, "image_filename", str))
            boxes = need(row, "bounding_boxes", list)
            regions = tuple(_region(box) for box in boxes)
            questions = need(row, "qa_data", list)
        except Bad as bad:
            yield refusal("visualmrc", split, name, key, bad)
            continue
        extra = rest(row, "bounding_boxes", "qa_data")
        rows = [{"key": f"{key}#{i}", "qa": question} for i, question in enumerate(questions)]
        record = partial(_record, split, name, image, regions, extra)
        yield from records("visualmrc", split, name, rows, record, key="key")


def _region(box: Any) -> Region:
    """Return a part of the layout; its words stay with it."""
    shape = need(box, "shape", dict)
    sides = [need(shape, side, (int, float)) for side in ("x", "y", "width", "height")]
    return word(
        as_text(box.get("structure", "")), box=xywh(sides), extra=rest(box, "structure", "shape")
    )


def _record(
    split: str,
    file: str,
    image: str,
    regions: tuple[Region, ...],
    extra: dict[str, Any],
    position: int,
    row: Any,
) -> Record:
    qa = need(row, "qa", dict)
    question, answer = need(qa, "question", dict), qa.get("answer")
    text = need(need(qa, "answer", dict), "text", str) if answer is not None else None
    return Record(
        source="visualmrc",
        split=split,
        native_id=row["key"],
        task="ocr",
        images=(ImageRef(path=image),),
        messages=asked(need(question, "text", str), text),
        answers=None if text is None else (text,),
        regions=regions,
        license=LICENSE,
        extra=extra | {"qa": qa},
        file=file,
    )


VISUALMRC = Source(
    name="visualmrc",
    title="VisualMRC",
    family="ocr",
    files=("{train,dev,test}.jsonl (or .json)", "images/*.png"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/nttmdlab-nlp/VisualMRC",
)
