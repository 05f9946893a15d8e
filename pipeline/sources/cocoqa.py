"""COCO-QA: four text files a split, aligned by line -> Record.

Format: https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa. Pictures are COCO numbers without
a split: train ones are of COCO's train set, test ones of its val set by the paper's account.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import Record
from pipeline.sources.base import Item, Source, relative
from pipeline.sources.coco import number, picture
from pipeline.sources.origin import Keyed, Origin
from pipeline.sources.rows import read_text

FIELDS = ("questions", "answers", "types", "img_ids")
FOLDERS = {
    "train": ("train2014", "val2014", "train2017"),
    "test": ("val2014", "train2014", "test2015", "train2017"),
}


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its four files."""
    files = {split: tuple(root / split / f"{name}.txt" for name in FIELDS) for split in FOLDERS}
    return {split: four for split, four in files.items() if all(file.exists() for file in four)}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a line, by the line's number.

    Raises:
        DataError: the files do not have as many lines.
    """

    def record(origin: Origin, key: str, row: dict[str, str]) -> Record:
        return origin.question(
            key,
            row["questions"],
            images=[picture(root, number(row["img_ids"]), FOLDERS[split])],
            target=row["answers"],
            extra={"types": row["types"], "img_ids": row["img_ids"]},
        )

    origin = Origin(
        source="cocoqa", split=split, file=relative(files[0], root), license=COCOQA.license
    )
    yield from origin.items(_lines(files), record)


def _lines(files: tuple[Path, ...]) -> Iterator[Keyed]:
    columns: list[list[str]] = []
    for file in files:
        lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
        columns.append(lines[:-1] if not lines[-1] else lines)
    counts = {file.name: len(lines) for file, lines in zip(files, columns, strict=True)}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DataError(
            f"not as many lines: {found}", file=files[0].parent, fix="unpack the release again"
        )
    rows: Any = zip(*columns, strict=True)
    for line, row in enumerate(rows, start=1):
        yield line, dict(zip(FIELDS, row, strict=True))


COCOQA = Source(
    name="cocoqa",
    title="COCO-QA",
    family="vqa",
    files=(
        "{train,test}/{questions,answers,types,img_ids}.txt",
        "{train2014,val2014}/COCO_*.jpg",
    ),
    splits=splits,
    reader=read,
    license="unclear: none stated",
    homepage="https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa",
    official={"train": 78_736, "test": 38_948},
    note="Whether test pictures lie in val2014 is unverified: train2014 is looked through too",
)
