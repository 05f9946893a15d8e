"""FM-IQA: Chinese questions on COCO pictures -> Record.

Format: the project's page is gone [unverified]; training code that reads the file shows one object with
the lists `train` and `val`. English translations, under other keys, are kept in `extra`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, Source, need, relative, rest
from pipeline.sources.coco import number, picture
from pipeline.sources.files import listed, read_object
from pipeline.sources.origin import Origin, numbered

FOLDERS = {"train": ("train2014", "val2014"), "val": ("val2014", "train2014")}


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the splits that the file lists."""
    files = [file for file in (root / "FM-IQA.json", root / "FM-IQA.json.gz") if file.exists()]
    there = read_object(files[0]) if files else {}
    return {split: (files[0],) for split in FOLDERS if split in there}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""

    def record(origin: Origin, _: str, row: Any) -> Record:
        return origin.question(
            str(need(row, "question_id", (int, str))),
            need(row, "Question", str),
            images=[picture(root, number(need(row, "image_id", (str, int))), FOLDERS[split])],
            target=need(row, "Answer", str) if "Answer" in row else None,
            extra=rest(row, "Question", "Answer"),
        )

    origin = Origin(
        source="fmiqa", split=split, file=relative(files[0], root), license=FMIQA.license
    )
    rows = listed(read_object(files[0]), split, files[0])
    yield from origin.items(numbered(rows, "question_id"), record)


FMIQA = Source(
    name="fmiqa",
    title="FM-IQA (Chinese)",
    family="vqa",
    files=("FM-IQA.json or FM-IQA.json.gz", "{train2014,val2014}/COCO_*.jpg"),
    splits=splits,
    reader=read,
    license="unclear: none stated",
    homepage="https://arxiv.org/abs/1505.05612",
    note="The project's page is gone; the form is that which training code reads",
)
