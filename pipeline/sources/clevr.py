"""CLEVR questions with their programs and scenes -> Record; CoGenT and the public generator's output too.

Format: https://cs.stanford.edu/people/jcjohns/clevr. The generator writes numbers and truth values where
the release has texts.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, Source, first_folder, need, read_list, relative, rest
from pipeline.sources.origin import Origin, hidden, numbered

GENERATED = "generated"
_NAME = re.compile(r"CLEVR_(?:(?P<split>\w+)_)?questions\.json")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (questions,) or (questions, scenes)."""
    found: dict[str, tuple[Path, ...]] = {}
    folder = _folder(root)
    for file in sorted([*folder.glob("CLEVR_*.json"), *folder.glob("questions/CLEVR_*.json")]):
        if match := _NAME.fullmatch(file.name):
            name = file.name.replace("questions", "scenes")
            scenes = (file.with_name(name), folder / "scenes" / name)
            found[match["split"] or GENERATED] = (file, *(f for f in scenes if f.exists()))
    return found


def _folder(root: Path) -> Path:
    return root / first_folder(root, ("CLEVR_v1.0", "CLEVR_CoGenT_v1.0"), ".")


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    scenes: dict[object, Any] = {}
    for file in files[1:]:
        scenes |= numbered(read_list(file, "scenes"), "image_filename")
    images = _folder(root) / "images"
    # The generator writes no folder a split.
    flat = images.is_dir() and not (images / split).is_dir()
    folder = relative(images if flat or split == GENERATED else images / split, root)

    def record(origin: Origin, _: str, row: Any) -> Record:
        image = need(row, "image_filename", str)
        scene = {"scene": scenes[image]} if image in scenes else {}
        return origin.question(
            str(need(row, "question_index", int)),
            need(row, "question", str),
            images=[f"{folder}/{image}"],
            target=None if hidden(row, "answer") else _answer(row["answer"]),
            extra=rest(row, "question", "answer") | scene,
        )

    origin = Origin(source="clevr", split=split, file=relative(files[0], root), license="CC BY 4.0")
    rows = numbered(read_list(files[0], "questions"), "question_index")
    yield from origin.items(rows, record)


def _answer(answer: Any) -> str:
    """
    >>> _answer("3"), _answer(3), _answer(True)
    ('3', '3', 'yes')
    """
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    text = need({"answer": answer}, "answer", (str, int))
    return str(text)


CLEVR = Source(
    name="clevr",
    title="CLEVR",
    family="vqa",
    files=(
        "CLEVR_v1.0/questions/CLEVR_{train,val,test}_questions.json",
        "CLEVR_v1.0/scenes/CLEVR_{train,val}_scenes.json",
        "CLEVR_v1.0/images/{train,val,test}/*.png",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://cs.stanford.edu/people/jcjohns/clevr",
    official={"train": 699_989, "val": 149_991, "test": 149_988},
)
