"""VQAv2 questions and annotations -> Record, and other releases in the VQA format.

Format: https://visualqa.org/download.html
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message, Record
from pipeline.sources.base import Bad, Item, Source, need, read_json, refusal, relative, rest, safe

_QUESTIONS = re.compile(r"(?:v2_)?OpenEnded_mscoco_(?P<split>[a-z-]+\d{4})_questions\.json")
_PLAIN = re.compile(r"(?P<split>[a-z-]+)_questions(?P<tail>[a-z_]*)\.json")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (questions,) or (questions, annotations)."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted(root.glob("*questions*.json")):
        if match := _QUESTIONS.fullmatch(file.name):
            name = file.name.replace("OpenEnded_", "").replace("questions", "annotations")
            answers = file.with_name(name)
        elif match := _PLAIN.fullmatch(file.name):
            answers = file.with_name(file.name.replace("questions", "annotations"))
        else:
            continue
        split = _split_name(match["split"])
        found[split] = (file, answers) if answers.exists() else (file,)
    return found


def _split_name(subtype: str) -> str:
    """
    >>> _split_name("train2014"), _split_name("test-dev2015")
    ('train', 'test-dev')
    """
    return re.sub(r"\d{4}$", "", subtype)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order; then a refusal for each unmatched annotation."""
    questions, name = read_json(files[0]), relative(files[0], root)
    asked = _list(questions, "questions", files[0])
    annotations = read_json(files[1]) if len(files) > 1 else None
    answered: dict[Any, dict[str, Any]] = {}
    if annotations is not None:
        for row in _list(annotations, "annotations", files[1]):
            if isinstance(row, dict) and _hashable(row.get("question_id")):
                answered[row["question_id"]] = row
            else:
                nameless = Bad("wrong_type", "an annotation without a question_id")
                yield refusal("vqav2", split, relative(files[1], root), "?", nameless)
    folder = _folder(questions, annotations, split)
    for position, question in enumerate(asked):
        key: object = f"#{position}"
        try:
            key = need(question, "question_id", (int, str))
            annotation = answered.pop(key, None)
            if annotation is None and annotations is not None:
                raise Bad("no_annotation", f"no annotation in {files[1].name}")
            yield _record(split, name, folder, question, annotation)
        except Bad as bad:
            yield refusal("vqav2", split, name, key, bad)
    for key in answered:
        alone = Bad("no_question", f"no question in {files[0].name}")
        yield refusal("vqav2", split, relative(files[1], root), key, alone)


def _hashable(value: object) -> bool:
    return isinstance(value, int | str)


def _list(content: Any, key: str, file: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(f"no list {key!r}", file=file, fix="take the official VQA file")
    rows: list[Any] = content[key]
    return rows


def _folder(questions: dict[str, Any], annotations: dict[str, Any] | None, split: str) -> str:
    """Return the picture folder, which the top level of the file names, not the record."""
    subtype = questions.get("data_subtype") or (annotations or {}).get("data_subtype")
    if not isinstance(subtype, str):
        subtype = {"train": "train2014", "val": "val2014"}.get(split, "test2015")
    return subtype.replace("test-dev", "test")


def _record(
    split: str,
    file: str,
    folder: str,
    question: dict[str, Any],
    annotation: dict[str, Any] | None,
) -> Record:
    text = need(question, "question", str)
    image_id = need(question, "image_id", (int, str))
    answers = None
    messages = [Message(role="user", content=f"{IMAGE}\n{text}")]
    extra: dict[str, Any] = {"image_id": image_id, **rest(question, "question", "image_id")}
    if annotation is not None:
        if annotation.get("image_id", image_id) != image_id:
            raise Bad(
                "image_mismatch",
                f"the question is on picture {image_id}, its annotation on {annotation['image_id']}",
            )
        answers = tuple(need(answer, "answer", str) for answer in need(annotation, "answers", list))
        target = annotation.get("multiple_choice_answer")
        if target is None and answers:
            target = Counter(answers).most_common(1)[0][0]
        if target is not None:
            if not isinstance(target, str):
                raise Bad("wrong_type", f"'multiple_choice_answer' is {target!r}, expected str")
            messages.append(Message(role="assistant", content=target))
        extra |= rest(annotation, "question_id", "image_id")
    return Record(
        source="vqav2",
        split=split,
        native_id=str(question["question_id"]),
        task="vqa",
        images=(ImageRef(path=_image(folder, image_id)),),
        messages=tuple(messages),
        answers=answers,
        license="CC BY 4.0",
        extra=extra,
        file=file,
    )


def _image(folder: str, image_id: int | str) -> str:
    """
    >>> _image("train2014", 42)
    'train2014/COCO_train2014_000000000042.jpg'
    """
    if isinstance(image_id, int):
        return f"{folder}/COCO_{folder}_{image_id:012}.jpg"
    # Re-exports of other datasets in this format name the picture itself.
    name = image_id if Path(image_id).suffix else f"{image_id}.jpg"
    return safe(f"{folder}/{name}")


VQAV2 = Source(
    name="vqav2",
    title="VQAv2",
    family="vqa",
    files=(
        "v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json",
        "v2_mscoco_{train2014,val2014}_annotations.json",
        "{train2014,val2014,test2015}/COCO_*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://visualqa.org",
    official={"train": 443_757, "val": 214_354, "test": 447_793},
)
