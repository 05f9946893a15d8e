"""ST-VQA: questions on scene text, three tasks over the same questions -> Record.

Format: https://rrc.cvc.uab.es/?ch=11
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, data_rows, need, read_json, relative, rest, safe
from pipeline.sources.origin import hidden
from pipeline.sources.rows import asked, records, texts

_NAME = re.compile(r"(?P<split>train|test)_task_(?P<task>[123])\.json")
PICTURES = ("ST-VQA", "test_task{task}_images", "")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the open task 3 as `train` and `test`, the others as `train_task_1`, ..."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted([*root.glob("*_task_?.json"), *root.glob("*/*_task_?.json")]):
        if match := _NAME.fullmatch(file.name):
            found[match["split"] if match["task"] == "3" else file.stem] = (file,)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    content = read_json(files[0])
    rows, name = data_rows(content, files[0]), relative(files[0], root)
    # Task 2 has one dictionary of 30,000 words for all its questions: no record repeats it.
    head = {k: v for k, v in content.items() if k != "data" and not isinstance(v, list | dict)}
    record = partial(_record, root, split, name, files[0].stem[-1], head)
    return records("stvqa", split, name, rows, record, key="question_id")


def _record(
    root: Path, split: str, file: str, task: str, head: dict[str, Any], position: int, row: Any
) -> Record:
    key, question = need(row, "question_id", (int, str)), need(row, "question", str)
    path = safe(need(row, "file_path", str))
    answers = None if hidden(row, "answers") else texts(row, "answers")
    return Record(
        source="stvqa",
        split=split,
        native_id=str(key),
        task="ocr",
        images=(ImageRef(path=_place(root, task, path)),),
        messages=asked(question, answers[0] if answers else None),
        answers=answers,
        license="RRC portal, research only",
        extra=rest(row, "question", "answers") | {"task": head},
        file=file,
    )


def _place(root: Path, task: str, path: str) -> str:
    """Return where a picture lies: training pictures by source, test pictures in one folder."""
    folders = [folder.format(task=task) for folder in PICTURES]
    places = [f"{folder}/{path}" if folder else path for folder in folders]
    return next((place for place in places if (root / place).exists()), places[0])


STVQA = Source(
    name="stvqa",
    title="ST-VQA",
    family="ocr",
    files=(
        "{train,test}_task_{1,2,3}.json",
        "ST-VQA/{coco-text,VisualGenome,imageNet,vizwiz,icdar,IIIT_text}/*.jpg",
        "test_task3_images/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="RRC portal, research only",
    homepage="https://rrc.cvc.uab.es/?ch=11",
    official={"train": 26_074, "test": 4_070},
)
