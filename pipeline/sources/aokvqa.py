"""A-OKVQA questions with four choices and ten direct answers -> Record.

Format: https://github.com/allenai/aokvqa. The question is asked openly and its right choice learnt,
which suits both tasks; the choices stand in `choices`, the direct answers in `answers`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, Source, need, read_rows, relative, rest
from pipeline.sources.coco import picture
from pipeline.sources.origin import Origin, chosen, hidden, numbered
from pipeline.sources.rows import texts

FOLDERS = {
    "train": ("train2017", "train2014", "val2014"),
    "val": ("val2017", "train2017", "val2014", "train2014"),
    "test": ("test2017", "test2015"),
}
"""Where a split's pictures may lie: the release means COCO 2017, older folders hold the same."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file."""
    files = {split: root / f"aokvqa_v1p0_{split}.json" for split in FOLDERS}
    return {split: (file,) for split, file in files.items() if file.exists()}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""

    def record(origin: Origin, _: str, row: Any) -> Record:
        choices = texts(row, "choices")
        right = None if hidden(row, "correct_choice_idx") else "correct_choice_idx"
        index = chosen(row, right, choices) if right else None
        return origin.question(
            need(row, "question_id", str),
            need(row, "question", str),
            images=[picture(root, need(row, "image_id", int), FOLDERS[split])],
            target=None if index is None else choices[index],
            answers=None if hidden(row, "direct_answers") else texts(row, "direct_answers"),
            choices=choices,
            shown=(),
            answer_index=index,
            extra=rest(row, "question", "choices", "correct_choice_idx", "direct_answers"),
        )

    origin = Origin(
        source="aokvqa", split=split, file=relative(files[0], root), license=AOKVQA.license
    )
    yield from origin.items(numbered(read_rows(files[0]), "question_id"), record)


AOKVQA = Source(
    name="aokvqa",
    title="A-OKVQA",
    family="vqa",
    files=("aokvqa_v1p0_{train,val,test}.json", "{train2017,val2017,test2017}/*.jpg"),
    splits=splits,
    reader=read,
    license="Apache-2.0",
    homepage="https://github.com/allenai/aokvqa",
    official={"train": 17_056, "val": 1_145, "test": 6_702},
)
