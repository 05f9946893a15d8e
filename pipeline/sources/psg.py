"""Panoptic scene graphs (PSG) -> one Record a picture: segments and the relations between them.

Format: https://github.com/Jingkang50/OpenPSG. Categories are places in thing_classes followed by
stuff_classes, relations are [subject, object, predicate], all from 0; boxes are corners although
the data is COCO's. The masks are COCO's panoptic PNGs, kept as run lengths where their folder is
there. `test_image_ids` names the validation pictures of psg_train_val.json.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message, Record, Region, region_mark
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    data_rows,
    need,
    read_json,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.panoptic import SHARE
from pipeline.sources.regions import flags, listed, listing, readable, xyxy
from pipeline.sources.segments import masked, masks_of, panoptic_ids

FILES = {
    "psg.json": ("train", "test"),
    "psg_train_val.json": ("train", "val"),
    "psg_val_test.json": ("test", "val"),
}
"""File -> the splits of pictures that `test_image_ids` does not name, and does."""
MASKS = tuple(
    f"{folder}panoptic_{split}2017" for folder in ("", "coco/") for split in ("train", "val")
)
RELATE = "List how the things and stuff in the picture relate: subject, predicate, object."


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (file, *folders of masks); a name taken twice bears the file's."""
    found: dict[str, tuple[Path, ...]] = {}
    masks = tuple(root / name for name in MASKS if (root / name).is_dir())
    for name, pair in FILES.items():
        for file in (root / name, root / "psg" / name):
            if file.is_file():
                for split in pair:
                    taken = split in found
                    found[f"{file.stem}_{split}" if taken else split] = (file, *masks)
                break
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture of the split, in file order."""
    file, place = files[0], relative(files[0], root)
    content = read_json(file)
    rows = data_rows(content, file)
    classes = [*_names(content, "thing_classes", file), *_names(content, "stuff_classes", file)]
    predicates = _names(content, "predicate_classes", file)
    named = content.get("test_image_ids", [])
    tested = {str(key) for key in named} if isinstance(named, list) else set()
    rest_split, named_split = FILES[file.name]
    own = split.removeprefix(f"{file.stem}_")
    for position, row in enumerate(rows):
        key: object = f"#{position}"
        try:
            key = str(need(row, "image_id", (str, int)))
            if own != (named_split if key in tested else rest_split):
                continue
            yield _record(root, split, place, row, classes, predicates)
        except Bad as bad:
            # A row without an id belongs to no split: it is refused once, in the first.
            if own == rest_split or not isinstance(key, str) or not key.startswith("#"):
                yield refusal("psg", split, place, key, bad)


def _names(content: dict[str, Any], key: str, file: Path) -> list[str]:
    names = content.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"no list of names {key!r}", file=file, fix="take the official file")
    return names


def _record(
    root: Path,
    split: str,
    file: str,
    row: dict[str, Any],
    classes: list[str],
    predicates: list[str],
) -> Record:
    picture, mask = safe(need(row, "file_name", str)), safe(need(row, "pan_seg_file_name", str))
    segments, boxes = need(row, "segments_info", list), need(row, "annotations", list)
    if len(segments) != len(boxes):
        raise Bad(
            "count_mismatch", f"{len(segments)} segments, but {len(boxes)} boxes to go with them"
        )
    size = need(row, "width", (int, float)), need(row, "height", (int, float))
    masks = _masks(root, mask)
    regions = [
        _region(segment, box, size, classes, masks)
        for segment, box in zip(segments, boxes, strict=True)
    ]
    if row.get("relations"):
        asked = RELATE
        triplets = _triplets(need(row, "relations", list), regions, predicates)
        answer = "\n".join(dict.fromkeys(triplets))
    else:
        asked, answer = SHARE, listing(listed(regions))
    messages = [Message(role="user", content=f"{IMAGE}\n{asked}")]
    if answer:
        messages.append(Message(role="assistant", content=answer))
    return Record(
        source="psg",
        split=split,
        native_id=str(row["image_id"]),
        task="grounding",
        images=(ImageRef(path=_first(root, picture)),),
        messages=tuple(messages),
        regions=tuple(regions),
        license="COCO pictures under their own licences; annotations MIT",
        extra=rest(row, "segments_info", "annotations"),
        file=file,
    )


def _masks(root: Path, mask: str) -> dict[int, tuple[int, str]] | None:
    places = (root / mask, root / "coco" / mask)
    file = next((place for place in places if place.parent.is_dir()), None)
    return None if file is None else masks_of(file, panoptic_ids)


def _first(root: Path, picture: str) -> str:
    places = (picture, f"coco/{picture}", f"images/{picture}")
    return next((place for place in places if (root / place).is_file()), picture)


def _region(
    segment: Any,
    box: Any,
    size: tuple[float, float],
    classes: list[str],
    masks: dict[int, tuple[int, str]] | None,
) -> Region:
    number, category = need(segment, "id", int), need(segment, "category_id", int)
    if not 0 <= category < len(classes):
        raise Bad("no_category", f"category {category} of {len(classes)}")
    if need(box, "category_id", int) != category:
        raise Bad(
            "category_mismatch", f"segment {number}: {category}, its box: {box['category_id']}"
        )
    corners = xyxy(need(box, "bbox", list))
    mask = masked(masks, number, segment.get("area"))
    return Region(
        label=classes[category],
        box=corners,
        rle=mask.get("rle"),
        extra={**segment, **rest(box, "bbox"), **flags(corners, *size), **mask.get("pixels", {})},
    )


def _triplets(relations: list[Any], regions: list[Region], predicates: list[str]) -> list[str]:
    """Return `subject predicate object` for each relation, with the marks of both regions."""
    lines = []
    for relation in relations:
        if not (
            isinstance(relation, list)
            and len(relation) == 3
            and all(isinstance(value, int) for value in relation)
        ):
            raise Bad("wrong_type", f"a relation is {relation!r:.60}, expected three whole numbers")
        subject, target, predicate = relation
        if not (0 <= subject < len(regions) and 0 <= target < len(regions)):
            raise Bad("no_segment", f"relation {relation} of {len(regions)} segments")
        if not 0 <= predicate < len(predicates):
            raise Bad("no_predicate", f"predicate {predicate} of {len(predicates)}")
        pair = (f"{readable(regions[i].label)} {region_mark(i)}" for i in (subject, target))
        lines.append(f" {predicates[predicate]} ".join(pair))
    return lines


PSG = Source(
    name="psg",
    title="Panoptic Scene Graph (PSG)",
    family="region",
    files=(
        "psg.json (or psg_train_val.json, psg_val_test.json)",
        "panoptic_{train,val}2017/*.png",
        "{train,val}2017/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="annotations MIT, COCO pictures under their own",
    homepage="https://github.com/Jingkang50/OpenPSG",
    note="masks are kept as exact run lengths where the PNG folders are unpacked",
)
