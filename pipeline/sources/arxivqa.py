"""ArxivQA: multiple-choice questions on figures of papers -> Record.

Format: https://huggingface.co/datasets/MMInstruction/ArxivQA
Options and labels come in many spellings; `choices` holds the options as given, junk included.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest, safe
from pipeline.sources.rows import asked, records, texts

_OPTION = re.compile(r"\s*\(?(?P<letter>[A-J])[).:]\s*(?P<text>.*)", re.DOTALL)
_LABEL = re.compile(r"\W*(?P<letter>[A-J])(?!\w)")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split, `train`."""
    names = ("arxivqa.jsonl", "train_clean.jsonl")
    file = next((root / name for name in names if (root / name).exists()), None)
    return {"train": (file,)} if file else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    name = relative(files[0], root)
    return records(
        "arxivqa", split, name, read_rows(files[0]), partial(_record, split, name), key="id"
    )


def _record(split: str, file: str, position: int, row: Any) -> Record:
    key, question = need(row, "id", (str, int)), need(row, "question", str)
    options, label = texts(row, "options"), need(row, "label", str)
    read = [_option(option, index) for index, option in enumerate(options)]
    letter = _letter(label, read)
    lines = [question, *(f"{own}. {text}" for own, text in read if own)]
    return Record(
        source="arxivqa",
        split=split,
        native_id=str(key),
        task="vqa",
        images=(ImageRef(path=safe(need(row, "image", str))),),
        messages=asked("\n".join(lines), letter),
        answers=(letter,),
        choices=options,
        answer_index=next(i for i, (own, _) in enumerate(read) if own == letter),
        license="CC BY-SA 4.0",
        extra=rest(row, "question", "options"),
        file=file,
    )


def _option(option: str, index: int) -> tuple[str, str]:
    """Return an option's letter and text; one without a letter has its place's, junk none.

    >>> _option("B: It falls", 0), _option("It rises", 2), _option("##", 1)
    (('B', 'It falls'), ('C', 'It rises'), ('', ''))
    """
    if match := _OPTION.fullmatch(option):
        return match["letter"], match["text"]
    if not any(character.isalnum() for character in option):
        return "", ""
    return chr(ord("A") + index), option


def _letter(label: str, options: list[tuple[str, str]]) -> str:
    """Return the letter of the right option.

    >>> [_letter(label, [("A", "Up"), ("B", "Down")]) for label in ("[B]", "B) Down", "down")]
    ['B', 'B', 'B']

    Raises:
        Bad: the label names none.
    """
    letters = [letter for letter, _ in options if letter]
    if (match := _LABEL.match(label)) and match["letter"] in letters:
        return match["letter"]
    same = [letter for letter, text in options if letter and _plain(text) == _plain(label)]
    if not same:
        raise Bad("unknown_label", f"'label' is {label!r:.80}, no option of {', '.join(letters)}")
    return same[0]


def _plain(text: str) -> str:
    return text.strip(" .").casefold()


ARXIVQA = Source(
    name="arxivqa",
    title="ArxivQA",
    family="ocr",
    files=("arxivqa.jsonl", "images/*.jpg"),
    splits=splits,
    reader=read,
    license="CC BY-SA 4.0",
    homepage="https://huggingface.co/datasets/MMInstruction/ArxivQA",
)
