"""Where a COCO picture lies: one number, under the 2014 name or the 2017 name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.base import Bad

TRAINVAL = ("train2014", "val2014", "train2017", "val2017")


def name(folder: str, image_id: int) -> str:
    """
    >>> name("val2014", 42), name("val2017", 42)
    ('COCO_val2014_000000000042.jpg', '000000000042.jpg')
    """
    return f"{image_id:012}.jpg" if folder.endswith("2017") else f"COCO_{folder}_{image_id:012}.jpg"


def folder_of(file_name: str) -> str | None:
    """Return the folder that a picture's 2014 name says.

    >>> folder_of("COCO_val2014_000000000042.jpg"), folder_of("000000000042.jpg")
    ('val2014', None)
    """
    match = re.fullmatch(r"COCO_(\w+\d{4})_\d{12}\.jpg", file_name)
    return match[1] if match else None


def number(value: Any) -> int:
    """Return a picture's number that is written as a text.

    >>> number("42")
    42

    Raises:
        Bad: it is no number, or has more than 12 digits.
    """
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise Bad("wrong_type", f"the picture is {value!r:.80}, expected a COCO number")
    return int(text)


def picture(root: Path, image_id: int, folders: Sequence[str] = TRAINVAL) -> str:
    """Return the path of a picture in the first folder that has it, or as the first would have it."""
    paths = [f"{folder}/{name(folder, image_id)}" for folder in folders]
    return next((path for path in paths if (root / path).is_file()), paths[0])
