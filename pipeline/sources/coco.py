"""Where a COCO picture lies: one number, under the 2014 name or the 2017 name."""

from collections.abc import Sequence
from pathlib import Path

TRAINVAL = ("train2014", "val2014", "train2017", "val2017")


def name(folder: str, number: int) -> str:
    """
    >>> name("val2014", 42), name("val2017", 42)
    ('COCO_val2014_000000000042.jpg', '000000000042.jpg')
    """
    return f"{number:012}.jpg" if folder.endswith("2017") else f"COCO_{folder}_{number:012}.jpg"


def picture(root: Path, number: int, folders: Sequence[str] = TRAINVAL) -> str:
    """Return the path of a picture in the first folder that has it, or as the first would have it."""
    paths = [f"{folder}/{name(folder, number)}" for folder in folders]
    return next((path for path in paths if (root / path).is_file()), paths[0])
