"""ADE20K's full release -> one Record a picture, its objects and parts with masks.

Format: https://github.com/CSAILVision/ADE20K (2021: a JSON file a picture; 2016: `_atr.txt`). Matlab
wrote the JSON: an absent value is `[]`, a single one stands alone, several are a list; these come
out as lists, yes and no as truth. An object's mask is its instance PNG, all of it, with what is
visible beside it; where those are not unpacked, its polygon. The PNGs of classes and parts are kept
whole in `extra`, one run-length mask a colour. In the older form an object is its rank among the
distinct blues of its level's PNG [unverified]. The hub's Parquet form is `pipeline.sources.ade20k_hub`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.masks import bounds, segments
from pipeline.sources.ade20k_hub import HUB_ROWS, hub_id, hub_row, hub_splits, matched, with_mask
from pipeline.sources.base import Bad, Item, Source, need, refusal, relative, rest
from pipeline.sources.each import record_id
from pipeline.sources.parquet import read_parquet
from pipeline.sources.regions import by_name, drawable, flags, listing, numbers
from pipeline.sources.segments import Colours, read_colours, read_numbers

LICENSE = "ADE20K terms of use, research and education"
NAME_OBJECTS = "Name every object in the picture, with the boxes of all of its kind."
SPLITS = {"training": "train", "validation": "val"}
ATTRIBUTES = ("instance", "part_level", "occluded", "name", "raw_name", "attributes")
"""Columns of the older form."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (folder of its pictures,)."""
    found: dict[str, tuple[Path, ...]] = {}
    for images in (*root.glob("images"), *root.glob("*/images")):
        for base in (images / "ADE", images):
            for folder, split in SPLITS.items():
                if split not in found and next(_annotations(base / folder), None) is not None:
                    found[split] = (base / folder,)
    return found or hub_splits(root)


def _annotations(folder: Path) -> Iterator[Path]:
    """Yield the annotation files below a folder; none if it is not there."""
    yield from folder.rglob("ADE_*.json")
    yield from folder.rglob("ADE_*_atr.txt")


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in order of their paths; one without annotation is refused."""
    if files[0].suffix == ".parquet":
        yield from _read_hub(root, split, files)
        return
    stems = {
        file.with_name(file.name.split(".")[0].removesuffix("_atr"))
        for file in _annotations(files[0])
    }
    stems |= {file.with_suffix("") for file in files[0].rglob("ADE_*.jpg")}
    for stem in sorted(stems):
        place = relative(stem, root)
        json, text = (stem.with_name(stem.name + tail) for tail in (".json", "_atr.txt"))
        try:
            if json.is_file():
                regions, extra = _modern(json)
            elif text.is_file():
                regions, extra = _older(stem, text)
            else:
                raise Bad("no_annotation", f"neither {json.name} nor {text.name} is there")
            file = json if json.is_file() else text
            image = ImageRef(path=f"{place}.jpg")
            key, where = place.rpartition("/")[2], relative(file, root)
            yield _record(
                split, key, image, where, regions, extra | {"masks": _masks(_masks_of(stem))}
            )
        except Bad as bad:
            yield refusal("ade20k", split, place, stem.name, bad)


def _read_hub(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    seen: set[str] = set()
    for file in files:
        place = relative(file, root)
        for position, row in enumerate(
            read_parquet(file, without=("image.bytes",), batch=HUB_ROWS)
        ):
            key = f"{place}#{position}"
            try:
                key = record_id({"id": hub_id(row)}, key, seen)
                image = ImageRef(path=place, member=f"{position}:image.bytes")
                entries, extra, masks, colours = hub_row(row)
                size = masks[0].shape if masks else colours[0][1].shape if colours else (None, None)
                regions = [_object(entry, size[0], size[1]) for entry in entries]
                regions, left = matched(regions, masks)
                extra |= {"masks": _masks(colours)} | ({"instances": left} if left else {})
                yield _record(split, key, image, place, regions, extra)
            except Bad as bad:
                yield refusal("ade20k", split, place, key, bad)


def _record(
    split: str,
    key: str,
    image: ImageRef,
    file: str,
    regions: list[Region],
    extra: dict[str, Any],
) -> Record:
    names = by_name(
        (region.label.split(",")[0].strip(), at)
        for at, region in enumerate(regions)
        if drawable(region) and not region.extra.get("part_level") and region.label
    )
    messages = [Message(role="user", content=f"{IMAGE}\n{NAME_OBJECTS}")]
    if names:
        messages.append(Message(role="assistant", content=listing(names)))
    return Record(
        source="ade20k",
        split=split,
        native_id=key,
        task="caption",
        images=(image,),
        messages=tuple(messages),
        regions=tuple(regions),
        license=LICENSE,
        extra=extra,
        file=file,
    )


def _modern(file: Path) -> tuple[list[Region], dict[str, Any]]:
    annotation = need(_json(file), "annotation", dict)
    size = [int(side) for side in numbers(need(annotation, "imsize", list), "imsize")]
    if len(size) < 2:
        raise Bad("wrong_type", f"'imsize' is {size}, expected height and width")
    regions = [
        _masked(_object(entry, size[0], size[1]), entry.get("instance_mask"), file.parent)
        for entry in _several(annotation.get("object", []))
    ]
    return regions, rest(annotation, "object", "scene") | {
        "scene": _several(annotation.get("scene"))
    }


def _json(file: Path) -> Any:
    data = file.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Bad("broken_json", f"{file.name} is not JSON: {error}") from error


def _several(value: Any) -> list[Any]:
    """
    >>> _several([]), _several("a"), _several(["a", "b"]), _several(None)
    ([], ['a'], ['a', 'b'], [])
    """
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _truth(value: Any) -> bool | None:
    """
    >>> _truth("yes"), _truth("0"), _truth([]), _truth(1), _truth(False)
    (True, False, None, True, False)
    """
    known = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}
    return known.get(str(value).strip().lower())


def _object(entry: Any, height: int | None, width: int | None) -> Region:
    polygon = _polygon(entry.get("polygon") if isinstance(entry, dict) else None)
    need(entry, "name_ndx", (int, list))
    parts = entry.get("parts")
    parts = parts if isinstance(parts, dict) else {}
    level = parts.get("part_level", 0)
    extra = rest(entry, "polygon", "name", "attributes", "occluded", "crop", "parts")
    extra |= {
        "attributes": _several(entry.get("attributes")),
        "occluded": _truth(entry.get("occluded")),
        "crop": _truth(entry.get("crop")),
        "hasparts": _several(parts.get("hasparts")),
        "ispartof": _several(parts.get("ispartof")),
        "part_level": int(level) if isinstance(level, int | str) and str(level).isdecimal() else 0,
    }
    box = None
    if polygon:
        box = min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])
        extra |= flags(box, width, height)
    return Region(
        label=need(entry, "name", str),
        box=box,
        polygons=(polygon,) if polygon else (),
        extra=extra,
    )


def _masked(region: Region, mask: Any, folder: Path) -> Region:
    """Return an object with the mask of its instance PNG, where that is unpacked."""
    if not isinstance(mask, str) or not (file := _inside(folder, mask)).is_file():
        return region
    return with_mask(region, read_numbers(file))


def _inside(folder: Path, name: str) -> Path:
    if name.startswith("/") or ".." in name or "\0" in name:
        raise Bad("unsafe_path", f"{name!r:.60} does not stay inside the dataset folder")
    return folder / name


def _polygon(value: Any) -> tuple[float, ...]:
    if not isinstance(value, dict):
        return ()
    xs, ys = (numbers(_several(value.get(axis)), axis) for axis in ("x", "y"))
    if len(xs) != len(ys):
        raise Bad("wrong_type", f"a polygon has {len(xs)} x and {len(ys)} y")
    return tuple(value for point in zip(xs, ys, strict=True) for value in point)


def _older(stem: Path, file: Path) -> tuple[list[Region], dict[str, Any]]:
    levels: dict[int, dict[int, Any]] = {}
    regions = []
    for line in file.read_bytes().decode("utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(" # ")]
        if len(cells) != len(ATTRIBUTES) or not all(cell.isdecimal() for cell in cells[:3]):
            raise Bad("broken_row", f"{line!r:.100} has not six fields, the first three numbers")
        values: dict[str, Any] = dict(zip(ATTRIBUTES, cells, strict=True))
        instance, level = int(cells[0]), int(cells[1])
        if level not in levels:
            levels[level] = _instances(stem, level)
        rle = levels[level].get(instance)
        values |= {"instance": instance, "part_level": level, "occluded": cells[2] == "1"}
        values["attributes"] = [a for a in cells[5].strip('"').split(", ") if a]
        regions.append(
            Region(
                label=cells[3],
                box=None if rle is None else bounds(rle),
                rle=None if rle is None else orjson.dumps(rle).decode(),
                extra=rest(values, "name"),
            )
        )
    return regions, {}


def _instances(stem: Path, level: int) -> dict[int, Any]:
    """Return instance -> mask of a level: an instance is the rank of its blue among all."""
    tail = f"_parts_{level}.png" if level else "_seg.png"
    blues = read_colours(stem.with_name(stem.name + tail))[..., 2]
    return {rank: rle for rank, (_, (_, rle)) in enumerate(sorted(segments(blues).items())) if rank}


def _masks_of(stem: Path) -> Iterator[tuple[str, Colours]]:
    """Yield the class and part PNGs that are there, by name."""
    files = [stem.with_name(f"{stem.name}_seg.png")]
    files += sorted(stem.parent.glob(f"{stem.name}_parts_*.png"))
    yield from ((file.name, read_colours(file)) for file in files if file.is_file())


def _masks(pngs: Iterable[tuple[str, Colours]]) -> list[dict[str, Any]]:
    """Return each colour of class and part PNGs with its pixels; black is nothing.

    Class is R // 10 * 256 + G, the `name_ndx` of objects; B tells instances apart.
    """
    found = []
    for name, colours in pngs:
        for number, (_, rle) in sorted(segments(_packed(colours)).items()):
            red, green, blue = number >> 16, number >> 8 & 255, number & 255
            if number:
                found.append(
                    {"file": name, "rgb": [red, green, blue], "rle": rle}
                    | {"class": red // 10 * 256 + green, "instance": blue}
                )
    return found


def _packed(colours: Colours) -> np.ndarray[Any, np.dtype[np.int64]]:
    red, green, blue = (colours[..., channel].astype(np.int64) for channel in range(3))
    return red << 16 | green << 8 | blue


ADE20K = Source(
    name="ade20k",
    title="ADE20K",
    family="region",
    files=(
        "images/ADE/{training,validation}/**/ADE_*.json (2016: ADE_*_atr.txt)",
        "ADE_*_seg.png, ADE_*_parts_*.png, ADE_*/instance_*.png",
        "ADE_*.jpg beside them",
        "or the hub's data/{train,validation}-*.parquet with `objects` and `segmentations`",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://groups.csail.mit.edu/vision/datasets/ADE20K",
    note=(
        "in the 2016 form instances are matched to masks by rank, in the hub's Parquet by order, "
        "both unverified"
    ),
    official={"train": 25_574, "val": 2_000},
)
