"""InfographicVQA questions with their Textract OCR -> Record.

Format: https://rrc.cvc.uab.es/?ch=17
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import (
    Item,
    Source,
    data_rows,
    first_folder,
    need,
    read_json,
    relative,
    rest,
    safe,
)
from pipeline.sources.origin import hidden
from pipeline.sources.rows import asked, records, texts

_NAME = re.compile(r"infographics?VQA_(?P<split>train|val|test)_v\d+\.\d+(?:_withQT)?\.json")
PICTURES = ("images", "infographicsvqa_images", "infographicVQA_images")
OCR = (
    "ocr",
    "infographicsvqa_ocr",
    "infographicVQA_{split}_v1.0_ocr",
    "infographicVQA_{split}_ocr",
)


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file, beside the pictures or one folder deeper, and the OCR."""
    found: dict[str, tuple[Path, ...]] = {}
    # `_withQT` sorts behind the older file of the same split, and replaces it.
    for file in sorted([*root.glob("*.json"), *root.glob("*/*.json")], key=lambda f: f.name):
        if match := _NAME.fullmatch(file.name):
            found[match["split"]] = (file,)
    return {
        split: (*found[split], *(ocr for ocr in [_ocr(root, split)] if ocr.is_dir()))
        for split in ("train", "val", "test")
        if split in found
    }


def _ocr(root: Path, split: str) -> Path:
    return root / first_folder(root, [name.format(split=split) for name in OCR], OCR[0])


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    pictures = first_folder(root, PICTURES, PICTURES[0])
    rows = data_rows(read_json(files[0]), files[0])
    name = relative(files[0], root)
    record = partial(_record, split, name, pictures, _ocr(root, split))
    return records("infographicvqa", split, name, rows, record, key="questionId")


def _record(split: str, file: str, pictures: str, ocr: Path, position: int, row: Any) -> Record:
    key, question = need(row, "questionId", (int, str)), need(row, "question", str)
    image = safe(need(row, "image_local_name", str))
    # Multi-span answers list the orders of their parts: the first is learnt, all are accepted.
    answers = None if hidden(row, "answers") else texts(row, "answers")
    extra = rest(row, "question", "answers")
    text = ocr / safe(row.get("ocr_output_file") or f"{Path(image).stem}.json")
    if text.is_file():
        extra["ocr"] = read_json(text)
    return Record(
        source="infographicvqa",
        split=split,
        native_id=str(key),
        task="ocr",
        images=(ImageRef(path=f"{pictures}/{image}"),),
        messages=asked(question, answers[0] if answers else None),
        answers=answers,
        license="RRC portal, research only",
        extra=extra,
        file=file,
    )


INFOGRAPHICVQA = Source(
    name="infographicvqa",
    title="InfographicVQA",
    family="ocr",
    files=(
        "infographicsVQA_train_v1.0.json",
        "infographicsVQA_val_v1.0_withQT.json",
        "infographicsVQA_test_v1.0.json",
        "images/*.jpeg",
        "infographicVQA_{train,val,test}_v1.0_ocr/*.json",
    ),
    splits=splits,
    reader=read,
    license="RRC portal, research only",
    homepage="https://www.docvqa.org/datasets/infographicvqa",
    official={"train": 23_946, "val": 2_801, "test": 3_288},
)
