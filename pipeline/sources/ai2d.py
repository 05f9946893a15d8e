"""AI2D: multiple-choice questions on science diagrams, with the diagrams' annotations -> Record.

Format: https://allenai.org/data/diagrams
Where `abcLabel` is true, the question speaks of letters that evaluations draw over the text boxes:
each region's `replacementText` at its box. The official pictures do not show them: the question
says where each letter is, and without the annotations its answer is not learnt.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, need, read_json, refusal, relative, rest, safe
from pipeline.sources.rows import as_text, asked, lettered, read_text, records
from pipeline.sources.words import around, outline, word

TEST_IDS = "ai2d_test_ids.csv"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the folders of questions and annotations; without test ids all is train."""
    folder = _folder(root)
    names = ("questions", "annotations", "categories.json", TEST_IDS)
    files = (*(folder / name for name in names), root / TEST_IDS)
    there = tuple(file for file in dict.fromkeys(files) if file.exists())
    return {split: there for split in ("train", "test") if _questions(root, split)}


def _questions(root: Path, split: str) -> list[Path]:
    """Return a split's question files, one for each picture, in the pictures' order."""
    folder = _folder(root)
    ids = next((file for file in (root / TEST_IDS, folder / TEST_IDS) if file.exists()), None)
    test = set(re.findall(r"\d+", read_text(ids))) if ids else set()
    files = sorted((folder / "questions").glob("*.json"), key=_order)
    return [file for file in files if (file.name.split(".")[0] in test) == (split == "test")]


def _folder(root: Path) -> Path:
    return root / "ai2d" if (root / "ai2d").is_dir() else root


def _order(file: Path) -> tuple[int, str]:
    number = file.name.split(".")[0]
    return int(number) if number.isdecimal() else 0, file.name


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture."""
    categories = _categories(root)
    for file in _questions(root, split):
        yield from _picture(root, split, file, categories)


def _categories(root: Path) -> dict[str, Any]:
    file = _folder(root) / "categories.json"
    content = read_json(file) if file.exists() else None
    return content if isinstance(content, dict) else {}


def _picture(root: Path, split: str, file: Path, categories: dict[str, Any]) -> Iterator[Item]:
    name = relative(file, root)
    try:
        content = read_json(file)
        image = safe(need(content, "imageName", str))
        questions = need(content, "questions", dict)
        regions, annotation = _annotation(file.parent.parent / "annotations" / file.name)
    except Bad as bad:
        yield refusal("ai2d", split, name, file.stem, bad)
        return
    extra = rest(content, "questions") | {"category": categories.get(image)}
    if annotation is not None:
        extra["annotations"] = annotation
    # Questions stand under their own text.
    rows = [
        {"question": text, **value} if isinstance(value, dict) else value
        for text, value in questions.items()
    ]
    path = relative(file.parent.parent / "images" / image, root)
    record = partial(_record, split, name, path, regions, extra)
    yield from records("ai2d", split, name, rows, record, key="questionId")


def _annotation(file: Path) -> tuple[tuple[Region, ...], dict[str, Any] | None]:
    """Return the text boxes of a diagram, and everything else of its annotation."""
    if not file.exists():
        return (), None
    annotation = need({"annotation": read_json(file)}, "annotation", dict)
    boxes = need(annotation, "text", dict) if "text" in annotation else {}
    return tuple(_region(box) for box in boxes.values()), rest(annotation, "text")


def _region(box: Any) -> Region:
    corners = outline(need(box, "rectangle", list))
    extra = rest(box, "value", "rectangle")
    return word(as_text(box.get("value", "")), box=around(corners), extra=extra)


def _letters(regions: Sequence[Region]) -> str:
    """Return where the letters of a diagram are, with marks of their regions; of none: nothing."""
    letters = [
        (text, place)
        for place, region in enumerate(regions)
        if isinstance(text := region.extra.get("replacementText"), str) and text.strip()
    ]
    said = ", ".join(f"{text.strip()} is at {region_mark(place)}" for text, place in letters)
    return f"Letters in the diagram: {said}." if said else ""


def _record(
    split: str,
    file: str,
    image: str,
    regions: tuple[Region, ...],
    extra: dict[str, Any],
    position: int,
    row: Any,
) -> Record:
    key, question = need(row, "questionId", str), need(row, "question", str)
    # An option can be an empty object: it keeps its place.
    choices = tuple(as_text(text) if text != {} else "" for text in need(row, "answerTexts", list))
    right = need(row, "correctAnswer", int)
    if not 0 <= right < len(choices):
        raise Bad("bad_answer_index", f"'correctAnswer' is {right}, of {len(choices)} options")
    letter = chr(ord("A") + right)
    asked_of = lettered(question, choices)
    unseen = False
    if row.get("abcLabel") is True:
        places = _letters(regions)
        unseen = not places
        asked_of = f"{places}\n{asked_of}" if places else asked_of
    user, answer = asked(asked_of, letter)
    return Record(
        source="ai2d",
        split=split,
        native_id=key,
        task="vqa",
        images=(ImageRef(path=image),),
        messages=(user, replace(answer, loss=False) if unseen else answer),
        answers=(letter,),
        choices=choices,
        answer_index=right,
        regions=regions,
        license="CC BY-SA 4.0",
        extra=rest(row, "question", "answerTexts", "correctAnswer") | extra,
        file=file,
    )


AI2D = Source(
    name="ai2d",
    title="AI2D",
    family="ocr",
    files=(
        "ai2d/questions/*.png.json",
        "ai2d/annotations/*.png.json",
        "ai2d/images/*.png",
        "ai2d/categories.json",
        "ai2d_test_ids.csv",
    ),
    splits=splits,
    reader=read,
    license="CC BY-SA 4.0",
    homepage="https://allenai.org/data/diagrams",
    official={"train": 12_413, "test": 3_088},
)
