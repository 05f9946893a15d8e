"""MultimodalOCR and OCRBench: bundles of text questions for evaluation -> Record.

Format: https://github.com/Yuliang-Liu/MultimodalOCR
In the older bundles `answer` is a model's prediction, and `gt_answers` is the truth.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import (
    Item,
    Source,
    is_conversation_file,
    need,
    read_rows,
    relative,
    rest,
    safe,
)
from pipeline.sources.rows import as_text, asked, records

TRUTHS = ("gt_answers", "answers")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each bundle as a split of its own, named by its stem."""
    files = sorted(root.glob("*.json"))
    return {f.stem: (f,) for f in files if is_conversation_file(f, ("image_path",))}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    name = relative(files[0], root)
    record = partial(_record, split, name)
    return records("multimodal_ocr", split, name, read_rows(files[0]), record, key="id")


def _record(split: str, file: str, position: int, row: Any) -> Record:
    question, path = need(row, "question", str), need(row, "image_path", str)
    truth = next((key for key in TRUTHS if key in row), TRUTHS[0])
    given = need(row, truth, (str, int, float, list))
    # A list holds what is accepted; some bundles have one text instead.
    answers = tuple(as_text(answer) for answer in (given if isinstance(given, list) else [given]))
    own = row.get("id")
    return Record(
        source="multimodal_ocr",
        split=split,
        native_id=str(own) if isinstance(own, int | str) else f"#{position}",
        task="ocr",
        images=(ImageRef(path=safe(path.removeprefix("./"))),),
        messages=asked(question, answers[0] if answers else None),
        answers=answers,
        license="research only",
        extra=rest(row, "question", truth),
        file=file,
    )


MULTIMODAL_OCR = Source(
    name="multimodal_ocr",
    title="MultimodalOCR and OCRBench",
    family="ocr",
    files=(
        "{STVQA,docVQA,ocrVQA,textVQA,OCRBench,...}.json",
        "pictures at the paths they name",
    ),
    splits=splits,
    reader=read,
    license="research only",
    homepage="https://github.com/Yuliang-Liu/MultimodalOCR",
    official={"OCRBench": 1_000},
)
