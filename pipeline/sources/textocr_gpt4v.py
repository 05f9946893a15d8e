"""TextOCR-GPT4V: captions of TextOCR's pictures, from Parquet or CSV -> Record.

Format: https://huggingface.co/datasets/jimmycarter/textocr-gpt4v
The release has no pictures: put TextVQA's `train_images` beside it. Where `filename` lies is not
documented: its last part is looked up there.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record
from pipeline.sources.base import Item, Source, need, relative, rest, safe
from pipeline.sources.files import csv_rows
from pipeline.sources.parquet import parquet_rows
from pipeline.sources.rows import records


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split, `train`: Parquet files here or in `data`, else a CSV file."""
    files = sorted([*root.glob("*.parquet"), *root.glob("data/*.parquet")]) or sorted(
        root.glob("*.csv")
    )
    return {"train": tuple(files)} if files else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in file order."""
    for file in files:
        rows: Any = csv_rows(file) if file.suffix == ".csv" else parquet_rows(root, file)
        name = relative(file, root)
        record = partial(_record, split, name)
        yield from records("textocr_gpt4v", split, name, rows, record, key="filename")


def _record(split: str, file: str, position: int, row: Any) -> Record:
    name, caption = safe(need(row, "filename", str)), need(row, "caption", str)
    return Record(
        source="textocr_gpt4v",
        split=split,
        native_id=name,
        task="caption",
        images=(ImageRef(path=f"train_images/{PurePosixPath(name).name}"),),
        messages=(
            Message(role="user", content=IMAGE),
            Message(role="assistant", content=caption),
        ),
        answers=(caption,),
        license="CC BY-NC 4.0",
        extra=rest(row, "caption"),
        file=file,
    )


TEXTOCR_GPT4V = Source(
    name="textocr_gpt4v",
    title="TextOCR-GPT4V",
    family="ocr",
    files=("data/train-*.parquet (or *.csv)", "train_images/*.jpg (those of TextVQA)"),
    splits=splits,
    reader=read,
    license="CC BY-NC 4.0",
    homepage="https://huggingface.co/datasets/jimmycarter/textocr-gpt4v",
)
