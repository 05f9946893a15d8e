"""COCO captions, in COCO's own files and in Karpathy's splits -> Record, one a caption.

Format: https://cocodataset.org/#format-data. Karpathy's splits (`karpathy_train`, `karpathy_restval`, ...)
are a second cut of the same captions: take one of the two. Files of pictures alone
(`image_info_test2014.json`) give pictures without a caption. COCO-CN's Chinese captions (`cn_test`) come in
the same form.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources import karpathy
from pipeline.sources.base import Bad, Item, Source, need, relative, rest
from pipeline.sources.coco import folder_of
from pipeline.sources.coco import name as coco_name
from pipeline.sources.files import listed, read_object
from pipeline.sources.origin import Origin, numbered

KARPATHY = "karpathy_"
_NAME = re.compile(r"(?:captions|image_info|coco-)_?(?P<split>[a-z-]+\d{4}|cn_[a-z]+)\.json")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split, such as `train2014` or `karpathy_test`, -> its file."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted([*root.glob("*.json"), *root.glob("annotations/*.json")]):
        if match := _NAME.fullmatch(file.name):
            found[match["split"]] = (file,)
        elif file.name == "dataset_coco.json":
            found |= {KARPATHY + split: files for split, files in karpathy.splits(file).items()}
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a caption, in file order; then the pictures that have none."""
    if split.startswith(KARPATHY):
        yield from karpathy.read(
            "coco_captions",
            COCO_CAPTIONS.license,
            root,
            split.removeprefix(KARPATHY),
            files[0],
            name=split,
            folder="val2014",
        )
        return
    content, file = read_object(files[0]), files[0]
    captions = listed(content, "annotations", file) if "annotations" in content else None
    listing = listed(content, "images", file) if "images" in content else None
    pictures = dict(numbered(listing or (), "id"))
    licenses = dict(
        numbered(listed(content, "licenses", file) if "licenses" in content else (), "id")
    )
    references = _references(captions or ())

    def described(origin: Origin, key: str, number: int, row: dict[str, Any]) -> Record:
        picture = pictures.get(number)
        license = _license(picture, licenses)
        extra = rest(row, "caption") | ({} if picture is None else {"image": picture})
        return origin.caption(
            key,
            need(row, "caption", str) if row else None,
            images=[_image(split, number, picture)],
            references=references.get(number),
            license=need(license, "name", str) if license else None,
            extra=extra | ({"image_license": license} if license else {}),
        )

    def captioned(origin: Origin, key: str, row: Any) -> Record:
        number = need(row, "image_id", int)
        if listing is not None and number not in pictures:
            raise Bad("no_image_entry", f"no picture {number} under 'images'")
        return described(origin, str(need(row, "id", int)), number, row)

    def alone(origin: Origin, key: str, picture: Any) -> Record:
        number = need(picture, "id", int)
        if captions is not None:
            raise Bad("no_caption", "no caption for this picture under 'annotations'")
        return described(origin, f"image {number}", number, {})

    origin = Origin(
        source="coco_captions",
        split=split,
        file=relative(file, root),
        license=COCO_CAPTIONS.license,
    )
    yield from origin.items(numbered(captions or (), "id"), captioned)
    yield from origin.items((p for p in pictures.items() if p[0] not in references), alone)


def _references(captions: Iterable[Any]) -> dict[object, list[str]]:
    """Return picture -> all its captions."""
    found: dict[object, list[str]] = {}
    for key, row in numbered(captions, "image_id"):
        if isinstance(row, dict) and isinstance(row.get("caption"), str):
            found.setdefault(key, []).append(row["caption"])
    return found


def _image(split: str, number: int, picture: Any) -> str:
    """Return a picture's path: by its file name, or by its number where the file lists no pictures."""
    folder = split.replace("test-dev", "test")
    if picture is None:
        return f"{folder}/{coco_name(folder, number)}"
    name = need(picture, "file_name", str)
    return f"{folder_of(name) or folder}/{name}"


def _license(picture: Any, licenses: Mapping[object, Any]) -> dict[str, Any]:
    """Return the file's entry of a picture's licence; empty if it lists none."""
    number = picture.get("license") if isinstance(picture, dict) else None
    entry = licenses.get(number) if isinstance(number, int | str) else None
    return entry if isinstance(entry, dict) else {}


COCO_CAPTIONS = Source(
    name="coco_captions",
    title="COCO Captions",
    family="caption",
    files=(
        "annotations/captions_{train,val}{2014,2017}.json",
        "or dataset_coco.json (Karpathy)",
        "{train,val}{2014,2017}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://cocodataset.org",
    # Of the Karpathy split only the sum of the last three is: they are val2014.
    unverified=("karpathy_restval", "karpathy_val", "karpathy_test"),
    official={
        "train2014": 414_113,
        "val2014": 202_654,
        "train2017": 591_753,
        "val2017": 25_014,
        "karpathy_train": 414_113,
        "karpathy_restval": 152_634,
        "karpathy_val": 25_010,
        "karpathy_test": 25_010,
    },
    note="Karpathy's splits cut the same captions again: take one of the two",
)
