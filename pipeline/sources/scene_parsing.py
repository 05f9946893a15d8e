"""MIT Scene Parsing (ADEChallengeData2016): 150 classes of ADE20K -> one Record a picture.

Format: http://sceneparsing.csail.mit.edu. An annotation PNG holds a class a pixel, 1 to 150; 0 is
everything else. Each class of a picture becomes a region with its exact mask and the box around it.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.masks import bounds, segments
from pipeline.sources.base import Bad, Item, Source, refusal, relative
from pipeline.sources.panoptic import SHARE
from pipeline.sources.regions import listed, listing
from pipeline.sources.segments import read_numbers

NAME = "scene_parsing"
LICENSE = "BSD-like [unverified], pictures for research and education"
SPLITS = {"training": "train", "validation": "val"}
CLASSES = "objectInfo150.txt"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (folder of masks, table of classes)."""
    found: dict[str, tuple[Path, ...]] = {}
    for base in (root, root / "ADEChallengeData2016"):
        for folder, split in SPLITS.items():
            masks, classes = base / "annotations" / folder, base / CLASSES
            if masks.is_dir() and classes.is_file():
                found.setdefault(split, (masks, classes))
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in order of their names; one without a mask is refused."""
    masks, names = files[0], _names(files[1])
    pictures = masks.parent.parent / "images" / masks.name
    stems = {file.stem for file in masks.glob("*.png")} | {f.stem for f in pictures.glob("*.jpg")}
    for stem in sorted(stems):
        file = masks / f"{stem}.png"
        try:
            regions = _regions(file, names)
        except Bad as bad:
            yield refusal(NAME, split, relative(file, root), stem, bad)
            continue
        messages = [Message(role="user", content=f"{IMAGE}\n{SHARE}")]
        if regions:
            messages.append(Message(role="assistant", content=listing(listed(regions))))
        yield Record(
            source=NAME,
            split=split,
            native_id=stem,
            task="caption",
            images=(ImageRef(path=relative(pictures / f"{stem}.jpg", root)),),
            messages=tuple(messages),
            regions=tuple(regions),
            license=LICENSE,
            file=relative(file, root),
        )


def _names(file: Path) -> dict[int, str]:
    """Return class -> its names, a comma list.

    Raises:
        DataError: the table is broken.
    """
    found = {}
    lines = file.read_bytes().decode("utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if line.strip():
            if len(cells) < 6 or not cells[0].isdecimal():
                raise DataError(
                    "expected Idx, Ratio, Train, Val, Stuff and Name between tabs",
                    file=file,
                    record=f"line {number}",
                    fix="take the official table",
                )
            found[int(cells[0])] = cells[5]
    return found


def _regions(file: Path, names: dict[int, str]) -> list[Region]:
    regions = []
    for number, (pixels, rle) in sorted(segments(read_numbers(file)).items()):
        if not number:
            continue
        if number not in names:
            raise Bad("no_category", f"class {number} is not in {CLASSES}")
        regions.append(
            Region(
                label=names[number].split(",")[0].strip(),
                box=bounds(rle),
                rle=orjson.dumps(rle).decode(),
                extra={"class": number, "names": names[number], "pixels": pixels},
            )
        )
    return regions


SCENE_PARSING = Source(
    name=NAME,
    title="MIT Scene Parsing (ADE20K, 150 classes)",
    family="region",
    files=(
        "annotations/{training,validation}/*.png",
        CLASSES,
        "images/{training,validation}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="http://sceneparsing.csail.mit.edu",
    note="counts and licence are unverified",
    unverified=("train", "val"),
    official={"train": 20_210, "val": 2_000},
)
