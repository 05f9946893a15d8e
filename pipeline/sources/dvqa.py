"""DVQA: questions on bar charts, and the charts' metadata -> Record.

Format: https://github.com/kushalkafle/DVQA_dataset
The README says `question_type` and `bbox_answer`, files have `template_id` and `answer_bbox`: both
are read. The shape of the metadata is not documented: a list of objects with `image` is expected.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, need, read_rows, relative, rest, safe
from pipeline.sources.regions import xywh
from pipeline.sources.rows import asked, records
from pipeline.sources.words import page, word

SPLITS = ("train", "val_easy", "val_hard")
LICENSE = "CC BY-NC 4.0"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return `train`, ...: the questions; and `train_metadata`, ...: a record for each chart."""
    found: dict[str, tuple[Path, ...]] = {}
    for kind, suffix in (("qa", ""), ("metadata", "_metadata")):
        for split in SPLITS:
            names = (
                f"{split}_{kind}.json",
                f"qa/{split}_{kind}.json",
                f"metadata/{split}_{kind}.json",
            )
            file = next((root / name for name in names if (root / name).exists()), None)
            if file:
                found[split + suffix] = (file,)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, or a chart, in file order."""
    name = relative(files[0], root)
    record = partial(_chart if split.endswith("_metadata") else _question, split, name)
    return records("dvqa", split, name, read_rows(files[0]), record, key="question_id")


def _question(split: str, file: str, position: int, row: Any) -> Record:
    key, question = need(row, "question_id", (int, str)), need(row, "question", str)
    # Words are counts, digits are values on the axis: neither is turned into the other.
    answer = need(row, "answer", str)
    boxed = "answer_bbox" if "answer_bbox" in row else "bbox_answer"
    box = row.get(boxed)
    return Record(
        source="dvqa",
        split=split,
        native_id=str(key),
        task="vqa",
        images=(_image(row),),
        messages=asked(question, answer),
        answers=(answer,),
        regions=(word(answer, box=xywh(box), extra={}),) if box else (),
        license=LICENSE,
        extra=rest(row, "question", "answer", *((boxed,) if box else ())),
        file=file,
    )


def _chart(split: str, file: str, position: int, row: Any) -> Record:
    return page(
        source="dvqa",
        split=split,
        native_id=need(row, "image", str),
        image=_image(row),
        text=None,
        regions=(),
        license=LICENSE,
        extra=row,
        file=file,
    )


def _image(row: Any) -> ImageRef:
    return ImageRef(path=safe(f"images/{need(row, 'image', str)}"))


DVQA = Source(
    name="dvqa",
    title="DVQA",
    family="ocr",
    files=(
        "{train,val_easy,val_hard}_qa.json",
        "{train,val_easy,val_hard}_metadata.json",
        "images/bar_*.png",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/kushalkafle/DVQA_dataset",
    official={"train": 2_325_316, "val_easy": 580_557, "val_hard": 581_321},
)
