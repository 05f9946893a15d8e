"""VCR, visual commonsense reasoning: Q -> A, and QA -> R where the right answer is given -> Record.

Format: https://visualcommonsense.com/download. Texts name detected objects by their places in `objects`,
from 0: place 2 of class `person` reads `person3`, as the free texts count. Each object is a region; its box
is marked where it is named first. Boxes lie beside the pictures: without the folder of the pictures
regions have none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import Record, Region, region_mark
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    first_folder,
    need,
    read_json,
    relative,
    rest,
    safe,
)
from pipeline.sources.files import json_lines
from pipeline.sources.origin import Origin, chosen, hidden, numbered
from pipeline.sources.regions import numbers
from pipeline.sources.rows import texts

LICENSE = "research only, movie frames"
PICTURES = "vcr1images"
TASKS = {
    "vcr": ("answer_choices", "answer_label", ("train", "val", "test")),
    # A test question hides the answer that a rationale is asked for.
    "vcr_qar": ("rationale_choices", "rationale_label", ("train", "val")),
}
"""Source -> the choices, the right one, the splits."""


def splits(source: str, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file."""
    folder = root / first_folder(root, ("vcr1annots",), ".")
    files = {split: folder / f"{split}.jsonl" for split in TASKS[source][2]}
    return {split: (file,) for split, file in files.items() if file.exists()}


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    origin = Origin(source=source, split=split, file=relative(files[0], root), license=LICENSE)
    rows = numbered(json_lines(files[0]), "annot_id")
    yield from origin.items(rows, partial(_record, root))


def _record(root: Path, origin: Origin, key: str, row: Any) -> Record:
    names = [f"{label}{place + 1}" for place, label in enumerate(texts(row, "objects"))]
    question = said(need(row, "question", list), names)
    if origin.source == "vcr_qar":
        answers = _choices(row, "answer_choices", names)
        question = f"{question}\n{answers[chosen(row, 'answer_label', answers)]}"
    key_of_choices, label, _ = TASKS[origin.source]
    choices = _choices(row, key_of_choices, names)
    metadata = _metadata(root, need(row, "metadata_fn", str))
    record = origin.question(
        need(row, "annot_id", str),
        question,
        images=[f"{PICTURES}/{need(row, 'img_fn', str)}"],
        choices=choices,
        answer_index=None if hidden(row, label) else chosen(row, label, choices),
        regions=_regions(row["objects"], metadata),
        extra=rest(row, "objects") | {"metadata": rest(metadata, "boxes", "segms")},
    )
    return _marked(record, names)


def said(tokens: Sequence[Any], names: Sequence[str]) -> str:
    """Return a text of tokens; a list among them names objects.

    >>> said(["Does", [0, 2], "smile", "?"], ["person1", "dog2", "person3"])
    'Does person1 and person3 smile ?'

    Raises:
        Bad: a token is something else, or names no object.
    """
    words = []
    for token in tokens:
        if isinstance(token, list):
            known = [names[chosen({"object": place}, "object", names)] for place in token]
            words.append(" and ".join(known))
        else:
            words.append(need({"token": token}, "token", str))
    return " ".join(words)


def _choices(row: Any, key: str, names: Sequence[str]) -> list[str]:
    return [said(need({key: choice}, key, list), names) for choice in need(row, key, list)]


def _metadata(root: Path, name: str) -> dict[str, Any]:
    """Return what lies beside a picture: boxes and outlines of its objects, its size."""
    folder = root / PICTURES
    if not folder.is_dir():
        return {}
    file = folder / safe(name)
    if not file.is_file():
        raise Bad("no_metadata", f"no file {PICTURES}/{name}")
    try:
        metadata: dict[str, Any] = need({"metadata": read_json(file)}, "metadata", dict)
    except DataError as error:
        raise Bad("broken_metadata", f"{PICTURES}/{name}: {error.problem}") from error
    return metadata


def _regions(objects: Sequence[str], metadata: Mapping[str, Any]) -> list[Region]:
    """Return a region an object; a box's fifth number is the detector's score."""
    if not metadata:
        return [Region(label=label, box=None) for label in objects]
    boxes, outlines = need(metadata, "boxes", list), need(metadata, "segms", list)
    if not len(boxes) == len(outlines) == len(objects):
        found = f"{len(objects)} objects, {len(boxes)} boxes, {len(outlines)} outlines"
        raise Bad("unequal_lists", found)
    regions = []
    for label, box, polygons in zip(objects, boxes, outlines, strict=True):
        values = numbers(box, "boxes")
        if len(values) not in (4, 5):
            raise Bad("bad_box", f"{len(values)} numbers, expected x0, y0, x1, y1, score")
        points = [need({"segms": polygon}, "segms", list) for polygon in polygons or ()]
        regions.append(
            Region(
                label=label,
                box=(values[0], values[1], values[2], values[3]),
                polygons=tuple(
                    tuple(v for point in polygon for v in numbers(point, "segms"))
                    for polygon in points
                ),
                extra={"score": values[4]} if len(values) == 5 else {},
            )
        )
    return regions


def _marked(record: Record, names: Sequence[str]) -> Record:
    """Mark each object's region behind the first place that names it in the question."""
    if not names:
        return record
    text, spans, done, out = record.messages[0].content, {}, 0, ""
    for match in re.finditer(rf"\b(?:{'|'.join(map(re.escape, names))})\b", text):
        place = names.index(match[0])
        out += text[done : match.start()]
        if place not in spans:
            spans[place] = (len(out), len(out) + len(match[0]))
            out += match[0] + region_mark(place)
        else:
            out += match[0]
        done = match.end()
    return replace(
        record,
        messages=(replace(record.messages[0], content=out + text[done:]), *record.messages[1:]),
        regions=tuple(
            replace(region, span=spans.get(place)) for place, region in enumerate(record.regions)
        ),
    )


def _source(name: str, title: str, official: dict[str, int]) -> Source:
    return Source(
        name=name,
        title=title,
        family="reasoning",
        files=("vcr1annots/{train,val,test}.jsonl", f"{PICTURES}/*/*.jpg, {PICTURES}/*/*.json"),
        splits=partial(splits, name),
        reader=partial(read, name),
        license=LICENSE,
        homepage="https://visualcommonsense.com",
        official=official,
        unverified=tuple(official),
        note="Test has no rationale to choose",
    )


VCR = _source("vcr", "VCR, Q -> A", {"train": 212_923, "val": 26_534, "test": 25_263})
VCR_QAR = _source("vcr_qar", "VCR, QA -> R", {"train": 212_923, "val": 26_534})
