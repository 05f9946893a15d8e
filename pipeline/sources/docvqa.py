"""DocVQA (single page) questions with their OCR -> Record.

Format: https://rrc.cvc.uab.es/?ch=17
"""

import re
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

_NAME = re.compile(r"(?P<split>train|val|test)_v\d+\.\d+(?:_withQT)?\.json")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file: beside the pictures, in a split's folder, or in `spdocvqa_qas`."""
    found: dict[str, tuple[Path, ...]] = {}
    # `_withQT` sorts behind the older file of the same split, and replaces it.
    for file in sorted([*root.glob("*.json"), *root.glob("*/*.json")], key=lambda f: f.name):
        if match := _NAME.fullmatch(file.name):
            found[match["split"]] = (file,)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    name = relative(files[0], root)
    for position, row in enumerate(data_rows(read_json(files[0]), files[0])):
        key: object = f"#{position}"
        try:
            key = need(row, "questionId", (int, str))
            yield _record(root, split, files[0], row)
        except Bad as bad:
            yield refusal("docvqa", split, name, key, bad)


def _record(root: Path, split: str, file: Path, row: dict[str, Any]) -> Record:
    question, image = need(row, "question", str), safe(need(row, "image", str))
    messages = [Message(role="user", content=f"{IMAGE}\n{question}")]
    answers = None
    if not hidden(row, "answers"):
        answers = tuple(need({"answer": a}, "answer", str) for a in need(row, "answers", list))
        if answers:
            messages.append(Message(role="assistant", content=answers[0]))
    place = _place(root, split, image)
    extra = rest(row, "question", "answers")
    if (ocr := _ocr(root, place)) is not None:
        extra["ocr_results"] = ocr
    return Record(
        source="docvqa",
        split=split,
        native_id=str(row["questionId"]),
        task="ocr",
        images=(ImageRef(path=place),),
        messages=tuple(messages),
        answers=answers,
        license="RRC portal, research only",
        extra=extra,
        file=relative(file, root),
    )


def _place(root: Path, split: str, image: str) -> str:
    """Return where the picture lies: split archives have a folder a split, the merged one has none."""
    stem = image.removeprefix("documents/")
    choices = (image, f"{split}/{image}", f"spdocvqa_images/{stem}")
    return next((path for path in choices if (root / path).exists()), image)


def _ocr(root: Path, image: str) -> Any:
    picture = root / image
    for folder in ("ocr_results", "spdocvqa_ocr"):
        file = picture.parent.parent / folder / f"{picture.stem}.json"
        if file.exists():
            return read_json(file)
    return None


DOCVQA = Source(
    name="docvqa",
    title="DocVQA (single page)",
    family="ocr",
    files=(
        "{train,val}_v1.0_withQT.json",
        "test_v1.0.json",
        "documents/*.png",
        "ocr_results/*.json",
    ),
    splits=splits,
    reader=read,
    license="RRC portal, research only",
    homepage="https://www.docvqa.org",
    official={"train": 39_463, "val": 5_349, "test": 5_188},
)
