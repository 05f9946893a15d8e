"""TextVQA questions with their Rosetta OCR tokens -> Record.

Format: https://textvqa.org/dataset
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    data_rows,
    need,
    read_json,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.origin import hidden

FOLDERS = {"train": "train_images", "val": "train_images", "test": "test_images"}
"""Pictures of both train and val lie in `train_images`."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (questions,) or (questions, OCR tokens)."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in FOLDERS:
        files = sorted(root.glob(f"TextVQA_0.*_{split}.json"))
        ocr = sorted(root.glob(f"TextVQA_Rosetta_OCR_v*_{split}.json"))
        if files:
            found[split] = (files[-1], *ocr[-1:])
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    name = relative(files[0], root)
    tokens: dict[Any, dict[str, Any]] = {}
    for file in files[1:]:
        for row in data_rows(read_json(file), file):
            if isinstance(row, dict) and isinstance(row.get("image_id"), str):
                tokens[row["image_id"]] = row
    for position, row in enumerate(data_rows(read_json(files[0]), files[0])):
        key: object = f"#{position}"
        try:
            key = need(row, "question_id", (int, str))
            yield _record(split, name, row, tokens)
        except Bad as bad:
            yield refusal("textvqa", split, name, key, bad)


def _record(
    split: str, file: str, row: dict[str, Any], tokens: dict[Any, dict[str, Any]]
) -> Record:
    question, image_id = need(row, "question", str), need(row, "image_id", str)
    messages = [Message(role="user", content=f"{IMAGE}\n{question}")]
    answers = None
    if not hidden(row, "answers"):
        answers = tuple(need({"answer": a}, "answer", str) for a in need(row, "answers", list))
        if answers:
            common = Counter(answers).most_common(1)[0][0]
            messages.append(Message(role="assistant", content=common))
    extra = rest(row, "question", "answers")
    if image_id in tokens:
        extra["rosetta_ocr"] = rest(tokens[image_id], "image_id")
    return Record(
        source="textvqa",
        split=split,
        native_id=str(row["question_id"]),
        task="ocr",
        images=(ImageRef(path=safe(f"{FOLDERS[split]}/{image_id}.jpg")),),
        messages=tuple(messages),
        answers=answers,
        license="CC BY 4.0",
        extra=extra,
        file=file,
    )


TEXTVQA = Source(
    name="textvqa",
    title="TextVQA",
    family="ocr",
    files=(
        "TextVQA_0.5.1_{train,val,test}.json",
        "TextVQA_Rosetta_OCR_v0.2_{train,val,test}.json",
        "{train_images,test_images}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://textvqa.org",
    official={"train": 34_602, "val": 5_000, "test": 5_734},
)
