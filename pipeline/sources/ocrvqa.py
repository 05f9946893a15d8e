"""OCR-VQA: questions on book covers -> Record.

Format: https://ocr-vqa.github.io
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from catalog.errors import DataError
from catalog.record import ImageRef, Record
from pipeline.sources.base import Bad, Item, Source, need, read_json, refusal, rest, safe
from pipeline.sources.rows import as_text, asked, records

SPLITS = {"train": 1, "val": 2, "test": 3}
EXTENSIONS = (".jpg", ".png", ".gif", ".jpeg")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the three splits, all of one file."""
    file = root / "dataset.json"
    return dict.fromkeys(SPLITS, (file,)) if file.exists() else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, book by book; a book of no split is refused with the first."""
    books = read_json(files[0])
    if not isinstance(books, dict):
        raise DataError("no object of books", file=files[0], fix="take the official dataset.json")
    for key, book in books.items():
        number = book.get("split") if isinstance(book, dict) else None
        if number not in SPLITS.values():
            if split == "train":
                lost = Bad("unknown_split", f"'split' is {number!r}, expected 1, 2 or 3")
                yield refusal("ocrvqa", split, files[0].name, key, lost)
        elif number == SPLITS[split]:
            yield from _book(root, split, key, book)


def _book(root: Path, split: str, key: str, book: dict[str, Any]) -> Iterator[Item]:
    try:
        questions, answers = need(book, "questions", list), need(book, "answers", list)
        if len(questions) != len(answers):
            raise Bad("unequal_lists", f"{len(questions)} questions, {len(answers)} answers")
        image = _image(root, key, need(book, "imageURL", str))
    except Bad as bad:
        yield refusal("ocrvqa", split, "dataset.json", key, bad)
        return
    rows = [
        {"key": f"{key}#{i}", "question": question, "answer": answer}
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    extra = {"id": key, **rest(book, "questions", "answers", "split")}
    record = partial(_record, split, image, extra)
    yield from records("ocrvqa", split, "dataset.json", rows, record, key="key")


def _record(split: str, image: str, extra: dict[str, Any], position: int, row: Any) -> Record:
    question, answer = need(row, "question", str), as_text(need(row, "answer", (str, int, float)))
    return Record(
        source="ocrvqa",
        split=split,
        native_id=row["key"],
        task="ocr",
        images=(ImageRef(path=image),),
        messages=asked(question, answer),
        answers=(answer,),
        license="research only",
        extra=extra,
        file="dataset.json",
    )


def _image(root: Path, key: str, url: str) -> str:
    """Return the cover's path: with its address's extension, or, where all were renamed, another."""
    try:
        suffix = PurePosixPath(urlsplit(url).path).suffix
    except ValueError as error:
        raise Bad("bad_url", f"'imageURL' is {url!r:.80}: {error}") from error
    paths = [safe(f"images/{key}{ending}") for ending in (suffix, *EXTENSIONS)]
    return next((path for path in paths if (root / path).exists()), paths[0])


OCRVQA = Source(
    name="ocrvqa",
    title="OCR-VQA",
    family="ocr",
    files=("dataset.json", "images/*.{jpg,png,gif}"),
    splits=splits,
    reader=read,
    license="research only",
    homepage="https://ocr-vqa.github.io",
)
