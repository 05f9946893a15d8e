"""IconQA: a folder a question, answered by a text, by a picture, or by filling a blank -> Record.

Format: https://github.com/lupantech/IconQA. `problems.json` repeats what the folders hold.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, Record
from pipeline.sources.base import Bad, Item, Source, first_folder, need, read_json, relative, rest
from pipeline.sources.origin import Origin, chosen, letter
from pipeline.sources.rows import texts

TASKS = ("choose_txt", "choose_img", "fill_in_blank")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the `data.json` of each question, by task and number."""
    folder = root / first_folder(root, ("iconqa_data/iconqa", "iconqa"), ".")
    found = {
        split: tuple(
            file
            for task in TASKS
            for file in sorted((folder / split / task).glob("*/data.json"), key=_number)
        )
        for split in ("train", "val", "test")
    }
    return {split: files for split, files in found.items() if files}


def _number(file: Path) -> tuple[int, str]:
    pid = file.parent.name
    return int(pid) if pid.isdecimal() else 0, pid


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, task by task."""
    for file in files:
        origin = Origin(
            source="iconqa", split=split, file=relative(file, root), license=ICONQA.license
        )
        folder = relative(file.parent, root)
        yield from origin.items([(file.parent.name, read_json(file))], partial(_record, folder))


def _record(folder: str, origin: Origin, key: str, row: Any) -> Record:
    task, question = need(row, "ques_type", str), need(row, "question", str)
    image, extra = f"{folder}/image.png", rest(row, "question", "choices", "answer")
    if task == "fill_in_blank":
        answer = need(row, "answer", str)
        return origin.question(key, question, images=[image], target=answer, extra=extra)
    if task not in TASKS:
        raise Bad("unknown_task", f"'ques_type' is {task!r}, expected one of {', '.join(TASKS)}")
    choices, drawn = texts(row, "choices"), task == "choose_img"
    index = chosen(row, "answer", choices)
    return origin.question(
        key,
        question,
        images=[image, *(f"{folder}/{choice}" for choice in choices if drawn)],
        target=letter(index) if drawn else None,
        choices=choices,
        shown=[IMAGE] * len(choices) if drawn else choices,
        answer_index=index,
        extra=extra,
    )


ICONQA = Source(
    name="iconqa",
    title="IconQA",
    family="vqa",
    files=(
        "iconqa_data/iconqa/{train,val,test}/{choose_txt,choose_img,fill_in_blank}/*/data.json",
        "image.png and choice_*.png beside each",
    ),
    splits=splits,
    reader=read,
    license="CC BY-NC-SA 4.0",
    homepage="https://iconqa.github.io",
    official={"train": 64_462},
)
