"""VizWiz questions, which blind people asked about their own photographs -> Record.

Format: https://vizwiz.org/tasks-and-datasets/vqa. A record has no id: its picture is its id, one
question each. The same set in VQAv2's two files is read too.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources import vqav2
from pipeline.sources.base import Item, Source, first_folder, need, read_rows, relative, rest
from pipeline.sources.origin import Origin, hidden, numbered

SPLITS = ("train", "val", "test")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its one file, or the two files of VQAv2's format."""
    folder = root / first_folder(root, ("annotations", "Annotations"), ".")
    files = {split: folder / f"{split}.json" for split in SPLITS}
    found: dict[str, tuple[Path, ...]] = {
        split: (file,) for split, file in files.items() if file.exists()
    }
    return found or vqav2.splits(root)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    if "questions" in files[0].name:
        yield from vqav2.read("vizwiz", root, split, files)
        return
    origin = Origin(
        source="vizwiz", split=split, file=relative(files[0], root), license="CC BY 4.0"
    )
    yield from origin.items(numbered(read_rows(files[0]), "image"), _record)


def _record(origin: Origin, _: str, row: Any) -> Record:
    image = need(row, "image", str)
    answers = None
    if not hidden(row, "answers"):
        answers = [need(answer, "answer", str) for answer in need(row, "answers", list)]
    return origin.question(
        image,
        need(row, "question", str),
        images=[f"{origin.split}/{image}"],
        target=None if answers is None else Counter(answers).most_common(1)[0][0],
        answers=answers,
        extra=rest(row, "question"),
    )


VIZWIZ = Source(
    name="vizwiz",
    title="VizWiz",
    family="vqa",
    files=("annotations/{train,val,test}.json", "{train,val,test}/VizWiz_*.jpg"),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://vizwiz.org",
    official={"train": 20_523, "val": 4_319, "test": 8_000},
)
