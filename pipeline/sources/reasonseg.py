"""ReasonSeg, of LISA: questions whose answer is a part of a picture, in a LabelMe file a picture -> Record.

Format: https://github.com/dvlab-research/LISA. Each question on a picture is a record; a phrase becomes a
grounding record, a sentence a question that the mark of the region answers. All polygons of `target` are one
region; those of `ignore`, where the release does not say, stay in its `extra`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from catalog.record import IMAGE, ImageRef, Record, Region, region_mark
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    is_conversation_file,
    need,
    refusal,
    relative,
    rest,
)
from pipeline.sources.origin import turns
from pipeline.sources.rows import texts
from pipeline.sources.words import around, outline

LICENSE = "research only [unverified]"
SPLITS = ("train", "val", "test")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the folder of its label files."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        for folder in (root / split, root / "ReasonSeg" / split):
            if any(is_conversation_file(file, ("is_sentence",)) for file in folder.glob("*.json")):
                found[split] = (folder,)
                break
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture, in the order of their names."""
    for folder in files:
        for file in sorted(folder.glob("*.json")):
            name = relative(file, root)
            try:
                yield from _records(split, name, _content(file))
            except Bad as bad:
                yield refusal("reasonseg", split, name, file.stem, bad)


def _content(file: Path) -> Any:
    """Return what a label file holds; some are not UTF-8 but Windows-1252."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Bad("broken_json", f"{file.name} is not JSON: {error}") from error


def _records(split: str, file: str, row: Any) -> list[Record]:
    region = _target(need(row, "shapes", list))
    sentence = need(row, "is_sentence", bool)
    return [
        Record(
            source="reasonseg",
            split=split,
            native_id=f"{Path(file).stem}.{number}",
            task="grounding",
            images=(ImageRef(path=f"{file.removesuffix('.json')}.jpg"),),
            messages=turns(f"{IMAGE}\n{text}", region_mark(0) if sentence else None),
            answers=(text,),
            regions=(region,),
            license=LICENSE,
            extra=rest(row, "text", "shapes"),
            file=file,
        )
        for number, text in enumerate(_questions(row))
    ]


def _questions(row: Any) -> Sequence[str]:
    questions = texts(row, "text")
    if not questions or not all(question.strip() for question in questions):
        raise Bad("empty_sentence", "a question is blank, or there is none")
    return questions


def _target(shapes: Sequence[Any]) -> Region:
    """Return the region that the target's polygons make together."""
    polygons: dict[str, list[tuple[float, ...]]] = {"target": [], "ignore": []}
    for shape in shapes:
        label = need(shape, "label", str).lower()
        # `flag` is a leftover that the release's own code passes over.
        if label != "flag":
            polygons.setdefault(label, []).append(outline(need(shape, "points", list)))
    target = polygons.pop("target")
    if not target:
        raise Bad("no_object", "no shape is the target")
    return Region(
        label="target",
        box=around([value for polygon in target for value in polygon]),
        polygons=tuple(target),
        extra={label: found for label, found in polygons.items() if found},
    )


REASONSEG = Source(
    name="reasonseg",
    title="ReasonSeg (LISA)",
    family="region",
    files=("{train,val,test}/*.json with `is_sentence`", "{train,val,test}/*.jpg"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/dvlab-research/LISA",
    note="239, 200 and 779 pictures, each with one or more questions; explanations in words are not read; "
    "the folders and the licence are unverified",
)
