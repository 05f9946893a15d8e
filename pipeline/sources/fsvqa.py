"""FSVQA: VQA questions with answers that are full sentences -> Record.

Format: no public description of the files was found [unverified]; the paper (arXiv 1609.06657) says what
they hold. So the names of the fields are not fixed: `fields.json` beside the files says which one is the
picture, the question, the answer and the id, for example `{"answer": "full_answer"}`; without it the usual
names are tried. Files in VQAv2's two-file format are read as such.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import UserError
from catalog.record import Record
from pipeline.sources import vqav2
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest
from pipeline.sources.coco import number, picture
from pipeline.sources.files import csv_rows, read_object
from pipeline.sources.origin import Origin, numbered
from pipeline.sources.rows import as_text

FIELDS: dict[str, tuple[str, ...]] = {
    "id": ("question_id", "id"),
    "image": ("image_id", "image", "img_id"),
    "question": ("question",),
    "answer": ("full_answer", "full_sentence_answer", "answer"),
}
"""What a record needs -> the names its field may have, in order of preference."""
SETTINGS = "fields.json"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each file as a split of its own, named by its stem, with the names of its fields."""
    pairs = vqav2.splits(root)
    if pairs:
        return pairs
    settings = tuple(file for file in (root / SETTINGS,) if file.exists())
    files = sorted([*root.glob("*.json"), *root.glob("*.jsonl"), *root.glob("*.csv")])
    return {file.stem: (file, *settings) for file in files if file.name != SETTINGS}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order.

    Raises:
        UserError: `fields.json` names something that a record does not need.
    """
    if "questions" in files[0].name:
        yield from vqav2.read("fsvqa", root, split, files)
        return
    names = FIELDS | _settings(files[1]) if len(files) > 1 else FIELDS

    def record(origin: Origin, key: str, row: Any) -> Record:
        id_, image, question, answer = (_name(row, names[what]) for what in FIELDS)
        if image is None or question is None:
            raise Bad("missing_field", f"none of {', '.join(names['image'] + names['question'])}")
        given = str(need(row, image, (int, str)))
        return origin.question(
            key if id_ is None else str(need(row, id_, (int, str))),
            need(row, question, str),
            images=[picture(root, number(given)) if given.isdecimal() else given],
            target=None if answer is None else as_text(row[answer]),
            extra=rest(row, question, *([answer] if answer else [])),
        )

    origin = Origin(source="fsvqa", split=split, file=relative(files[0], root), license=LICENSE)
    rows = csv_rows(files[0]) if files[0].suffix == ".csv" else iter(read_rows(files[0]))
    yield from origin.items(numbered(rows, "question_id"), record)


def _settings(file: Path) -> dict[str, tuple[str, ...]]:
    given = read_object(file)
    wrong = [
        what for what, name in given.items() if what not in FIELDS or not isinstance(name, str)
    ]
    if wrong:
        raise UserError(
            f"{file}: {', '.join(wrong)} is not a text under one of {', '.join(FIELDS)}",
            fix='for example {"answer": "full_answer"}',
        )
    return {what: (name,) for what, name in given.items()}


def _name(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the first of the names that a row has."""
    if not isinstance(row, dict):
        raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
    return next((name for name in names if row.get(name) is not None), None)


LICENSE = "unclear: none stated"
FSVQA = Source(
    name="fsvqa",
    title="FSVQA",
    family="vqa",
    files=("*.json, *.jsonl or *.csv, with fields.json", "{train2014,val2014}/COCO_*.jpg"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://arxiv.org/abs/1609.06657",
    note="The form is unverified: `fields.json` names the fields",
)
