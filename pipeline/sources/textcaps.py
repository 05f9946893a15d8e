"""TextCaps captions, with the Rosetta OCR tokens of TextVQA's pictures -> Record, one a caption.

Format: https://textvqa.org/textcaps/dataset. A record repeats all captions of its picture.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, Source, data_rows, need, read_json, relative, rest
from pipeline.sources.origin import Origin, hidden, numbered
from pipeline.sources.rows import texts
from pipeline.sources.textvqa import FOLDERS


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (captions,) or (captions, OCR tokens)."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in FOLDERS:
        files = sorted(root.glob(f"TextCaps_0.*_{split}.json"))
        ocr = sorted(root.glob(f"TextVQA_Rosetta_OCR_v*_{split}.json"))
        if files:
            found[split] = (files[-1], *ocr[-1:])
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a caption, in file order; a test split has one a picture."""
    ocr = [data_rows(read_json(file), file) for file in files[1:]]
    tokens = {key: row for rows in ocr for key, row in numbered(rows, "image_id")}

    def record(origin: Origin, _: str, row: Any) -> Record:
        image_id, test = need(row, "image_id", str), hidden(row, "caption_str")
        extra = rest(row, "caption_str", "reference_strs")
        if image_id in tokens:
            extra["rosetta_ocr"] = rest(need(tokens, image_id, dict), "image_id")
        return origin.caption(
            image_id if test else str(need(row, "caption_id", int)),
            None if test else need(row, "caption_str", str),
            images=[f"{FOLDERS[split]}/{image_id}.jpg"],
            references=None if hidden(row, "reference_strs") else texts(row, "reference_strs"),
            extra=extra,
        )

    origin = Origin(
        source="textcaps", split=split, file=relative(files[0], root), license="CC BY 4.0"
    )
    rows = numbered(data_rows(read_json(files[0]), files[0]), "caption_id")
    yield from origin.items(rows, record)


TEXTCAPS = Source(
    name="textcaps",
    title="TextCaps",
    family="caption",
    files=(
        "TextCaps_0.1_{train,val,test}.json",
        "TextVQA_Rosetta_OCR_v0.2_{train,val,test}.json",
        "{train_images,test_images}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://textvqa.org/textcaps",
    official={"train": 109_765, "val": 15_830, "test": 3_289},
)
