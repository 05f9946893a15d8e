"""Questions and annotations in two files, as VQAv2 releases them -> Record: VQAv2, VQA v1, OK-VQA.

VQA v1 asks its questions twice: openly, read as `vqav2`, and with 18 choices each, read as `vqa_v1_mc`.

Formats: https://visualqa.org/download.html, https://okvqa.allenai.org/download.html. Other sets are
re-exported in the same two files, with a picture's name as `image_id`. Where VQAv2's list of complementary
pairs is there, a record's `extra` names its partner: the same question with another picture and answer.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from catalog.record import Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    need,
    read_list,
    read_rows,
    relative,
    rest,
    safe,
)
from pipeline.sources.coco import name as coco_name
from pipeline.sources.files import mentioned
from pipeline.sources.origin import Origin, numbered
from pipeline.sources.rows import texts

PAIRS = "complementary_pairs"
_QUESTIONS = re.compile(r"(?:v2_)?OpenEnded_mscoco_(?P<split>[a-z-]+\d{4})_questions\.json")
_CHOICES = re.compile(r"MultipleChoice_mscoco_(?P<split>[a-z-]+\d{4})_questions\.json")
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
        pairs = answers.with_name(answers.name.replace("annotations", PAIRS))
        if answers.exists() and PAIRS in pairs.name and pairs.exists():
            found[split] = (file, answers, pairs)
    return found


def choices_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (questions with choices,) or (questions with choices, annotations)."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted(root.glob("MultipleChoice_mscoco_*_questions.json")):
        if match := _CHOICES.fullmatch(file.name):
            answers = file.with_name(f"mscoco_{match['split']}_annotations.json")
            found[_split_name(match["split"])] = (file, answers)[: 1 + answers.exists()]
    return found


def _split_name(subtype: str) -> str:
    """
    >>> _split_name("train2014"), _split_name("test-dev2015")
    ('train', 'test-dev')
    """
    return re.sub(r"\d{4}$", "", subtype)


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order; then a refusal for each unmatched annotation."""
    origins = [
        Origin(source=source, split=split, file=relative(file, root), license="CC BY 4.0")
        for file in files
    ]
    asked = numbered(read_list(files[0], "questions"), "question_id")
    # As bytes: half a million annotations would take gigabytes as objects.
    answered: dict[object, bytes] | None = None
    if len(files) > 1:
        answered = {}
        for key, row in numbered(read_list(files[1], "annotations"), "question_id"):
            if isinstance(row, dict) and row.get("question_id") == key:
                answered[key] = orjson.dumps(row)
            else:
                nameless = Bad("wrong_type", "an annotation without a question_id")
                yield origins[1].refuse(key, nameless)
    folder, partners = _folder(files[:2], split), _partners(files[2:])

    def record(origin: Origin, _: str, question: Any) -> Record:
        key, annotation = need(question, "question_id", (int, str)), None
        if answered is not None and (annotation := answered.pop(key, None)) is None:
            raise Bad("no_annotation", f"no annotation in {files[1].name}")
        found = _record(origin, folder, question, orjson.loads(annotation) if annotation else None)
        if key not in partners:
            return found
        return replace(found, extra={**found.extra, "complementary_question_id": partners[key]})

    yield from origins[0].items(asked, record)
    for key in answered or ():
        yield origins[1].refuse(key, Bad("no_question", f"no question in {files[0].name}"))


def _partners(files: tuple[Path, ...]) -> dict[Any, Any]:
    """Return question -> the one it is paired with.

    Raises:
        DataError: the file is no list of pairs.
    """
    found: dict[Any, Any] = {}
    for file in files:
        for pair in read_rows(file):
            if not isinstance(pair, list) or len(pair) != 2:
                raise DataError(
                    f"{pair!r:.60} is no pair of questions", file=file, fix="take the official file"
                )
            found |= {pair[0]: pair[1], pair[1]: pair[0]}
    return found


def _folder(files: tuple[Path, ...], split: str) -> str:
    """Return the picture folder, which the top level of a file names, not the record."""
    named = [name for file in files for name in mentioned(file, "data_subtype") if name]
    usual = {"train": "train2014", "val": "val2014"}.get(split, "test2015")
    return [*named, usual][0].replace("test-dev", "test")


def _record(
    origin: Origin, folder: str, question: dict[str, Any], annotation: dict[str, Any] | None
) -> Record:
    image_id = need(question, "image_id", (int, str))
    answers = target = None
    extra: dict[str, Any] = {"image_id": image_id, **rest(question, "question", "image_id")}
    if annotation is not None:
        if annotation.get("image_id", image_id) != image_id:
            raise Bad(
                "image_mismatch",
                f"the question is on picture {image_id}, its annotation on {annotation['image_id']}",
            )
        given = need(annotation, "answers", list)
        answers = [need(answer, "answer", str) for answer in given]
        target = _target(annotation, given)
        extra |= rest(annotation, "question_id", "image_id")
    choices: tuple[str, ...] = ()
    index = None
    if "multiple_choices" in question:
        choices = texts(extra, "multiple_choices")
        del extra["multiple_choices"]
        if target is not None:
            if target not in choices:
                raise Bad("no_answer", f"{target!r:.60} is none of the {len(choices)} choices")
            # What is learnt is the choice behind its letter.
            index, target = choices.index(target), None
    return origin.question(
        str(question["question_id"]),
        need(question, "question", str),
        images=[_image(folder, image_id)],
        target=target,
        answers=answers,
        choices=choices,
        answer_index=index,
        extra=extra,
    )


def _target(annotation: dict[str, Any], given: list[Any]) -> str | None:
    """Return the answer to learn, the one that most people gave.

    The release says it as `multiple_choice_answer`; re-exports may put any answer there, then it is
    counted. OK-VQA's answers are stemmed for scoring, and typed as `raw_answer`.
    """
    key = "raw_answer"
    typed = Counter(need(answer, key if key in answer else "answer", str) for answer in given)
    if annotation.get("multiple_choice_answer") is not None:
        target: str = need(annotation, "multiple_choice_answer", str)
        if not typed or typed[target] == max(typed.values()) or target not in typed:
            return target
    return typed.most_common(1)[0][0] if typed else None


def _image(folder: str, image_id: int | str) -> str:
    """
    >>> _image("train2014", 42)
    'train2014/COCO_train2014_000000000042.jpg'
    """
    if isinstance(image_id, int):
        return f"{folder}/{coco_name(folder, image_id)}"
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
    reader=partial(read, "vqav2"),
    license="CC BY 4.0",
    homepage="https://visualqa.org",
    official={"train": 443_757, "val": 214_354, "test": 447_793},
)
OKVQA = Source(
    name="okvqa",
    title="OK-VQA",
    family="vqa",
    files=(
        "OpenEnded_mscoco_{train2014,val2014}_questions.json",
        "mscoco_{train2014,val2014}_annotations.json",
        "{train2014,val2014}/COCO_*.jpg",
    ),
    splits=splits,
    reader=partial(read, "okvqa"),
    license="CC BY 4.0",
    homepage="https://okvqa.allenai.org",
    official={"train": 9_009, "val": 5_046},
)
VQA_V1_MC = Source(
    name="vqa_v1_mc",
    title="VQA v1, multiple choice",
    family="vqa",
    files=(
        "MultipleChoice_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json",
        "mscoco_{train2014,val2014}_annotations.json",
        "{train2014,val2014,test2015}/COCO_*.jpg",
    ),
    splits=choices_splits,
    reader=partial(read, "vqa_v1_mc"),
    license="CC BY 4.0",
    homepage="https://visualqa.org/vqa_v1_download.html",
    official={"train": 248_349, "val": 121_512, "test": 244_302},
    unverified=("train", "val", "test"),
    note="Its open-ended questions are read as `vqav2`",
)
