"""Karpathy's caption splits of COCO and Flickr30K: a list of pictures, each with its sentences.

Format: https://cs.stanford.edu/people/karpathy/deepimagesent. Older exports name no folder, sentence
id or COCO number: these come from the file name and the place.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, need, relative, rest
from pipeline.sources.coco import folder_of
from pipeline.sources.files import listed, read_object, split_names
from pipeline.sources.origin import Origin, nested, numbered, of_split


def splits(file: Path) -> dict[str, tuple[Path, ...]]:
    """Return the splits of a `dataset_*.json`: train, restval (COCO), val, test."""
    return dict.fromkeys(split_names(file), (file,)) if file.exists() else {}


def read(
    source: str, license: str, root: Path, split: str, file: Path, *, name: str, folder: str
) -> Iterator[Item]:
    """Yield one record a sentence, picture by picture, in file order.

    Args:
        name: the records' split, where it is not called like the file's.
        folder: where the pictures lie if the file does not say.
    """
    origin = Origin(source=source, split=name, file=relative(file, root), license=license)
    pictures = list(numbered(listed(read_object(file), "images", file), "imgid"))
    mine = of_split(pictures, split, list(splits(file)))
    yield from origin.items(nested(mine, "sentences", "sentid"), _record(folder))


def _record(folder: str) -> Callable[[Origin, str, tuple[Any, Any]], Record]:
    def record(origin: Origin, key: str, pair: tuple[Any, Any]) -> Record:
        picture, sentence = pair
        filename = need(picture, "filename", str)
        where = folder_of(filename) or folder
        if "filepath" in picture:
            where = need(picture, "filepath", str)
        return origin.caption(
            key,
            need(sentence, "raw", str),
            images=[f"{where}/{filename}"],
            references=[need(each, "raw", str) for each in need(picture, "sentences", list)],
            extra={
                "image_id": picture.get("cocoid", filename),
                "image": rest(picture, "sentences"),
                "sentence": rest(sentence, "raw"),
            },
        )

    return record
