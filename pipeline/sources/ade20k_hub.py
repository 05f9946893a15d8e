"""ADE20K as Parquet -> the parts of its records: objects, masks of instances, PNGs of classes and parts.

Format: https://huggingface.co/datasets/1aurent/ADE20K. A row has `image`, `segmentations` (the PNG of
classes, then those of part levels), `instances` (a mask an object), `filename`, `folder`, `source`,
`scene` and `objects`, whose `parts` say `is_part_of` and `has_parts`. That masks stand in the order of
the objects is unverified: where their number differs, or a mask and a polygon do not even touch, the
masks are kept in `extra` and no object gets one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from catalog.record import Region
from pipeline.masks import bounds, encode
from pipeline.sources.base import Bad, need, rest
from pipeline.sources.parquet import columns_of
from pipeline.sources.plain import plain
from pipeline.sources.segments import Colours, colours_of, numbers_of

HUB_ROWS = 32
"""Rows in memory together: each has all its masks."""
HUB_SPLITS = {"train": "train", "validation": "val"}
Mask = NDArray[np.int64]
"""(H, W): 255 visible, 128 hidden behind others, 0 outside."""


def hub_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its Parquet files."""
    found: dict[str, tuple[Path, ...]] = {}
    for folder in (root / "data", root):
        for name, split in HUB_SPLITS.items():
            files = sorted(folder.glob(f"{name}-*.parquet"))
            own = tuple(f for f in files if {"objects", "segmentations"} <= columns_of(f))
            if own:
                found.setdefault(split, own)
    return found


def hub_id(row: dict[str, Any]) -> str:
    """Return the name of a row's picture, without its extension."""
    return str(need(row, "filename", str)).rpartition("/")[2].rpartition(".")[0]


def hub_row(
    row: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any], list[Mask], list[tuple[str, Colours]]]:
    """Return a row's objects as the JSON form has them, its `extra`, instance masks and PNGs by name.

    Raises:
        Bad: a field is missing, or a mask does not decode.
    """
    stem = hub_id(row)
    objects = [_entry(entry) for entry in need(row, "objects", list)]
    masks = [
        numbers_of(_bytes(mask, "instances"), f"{stem} instance {number}")
        for number, mask in enumerate(row.get("instances") or ())
    ]
    colours = []
    for level, png in enumerate(need(row, "segmentations", list)):
        name = f"{stem}_parts_{level}.png" if level else f"{stem}_seg.png"
        colours.append((name, colours_of(_bytes(png, "segmentations"), name)))
    extra = rest(row, "image", "objects", "instances", "segmentations")
    return objects, plain(extra), masks, colours


def _bytes(value: Any, key: str) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(data, bytes):
        raise Bad("missing_mask", f"a picture of {key!r} has no bytes")
    return data


def _entry(entry: Any) -> dict[str, Any]:
    parts = entry.get("parts") if isinstance(entry, dict) else None
    if not isinstance(parts, dict):
        return dict(need({"object": entry}, "object", dict))
    polygon = entry.get("polygon")
    more = rest(polygon, "x", "y") if isinstance(polygon, dict) else {}
    named = {"part_level": parts.get("part_level") or 0}
    named |= {"ispartof": parts.get("is_part_of"), "hasparts": parts.get("has_parts")}
    left = rest(parts, "part_level", "is_part_of", "has_parts")
    return dict(plain(entry | more | left | {"parts": named}))


def matched(
    regions: Sequence[Region], masks: Sequence[Mask]
) -> tuple[list[Region], list[dict[str, Any]]]:
    """Return the objects with their masks; where they do not fit, without, and the masks beside."""
    fit = len(regions) == len(masks) and all(map(_touch, regions, masks))
    if fit:
        return list(map(with_mask, regions, masks)), []
    return list(regions), [
        {"rle": encode(mask > 0), "visible": encode(mask == 255)} for mask in masks
    ]


def _touch(region: Region, mask: Mask) -> bool:
    found = bounds(encode(mask > 0))
    if region.box is None or found is None:
        return True
    (a0, b0, a1, b1), (c0, d0, c1, d1) = region.box, found
    return a0 <= c1 and c0 <= a1 and b0 <= d1 and d0 <= b1


def with_mask(region: Region, mask: Mask) -> Region:
    """Return an object with all of its mask; what is visible stands beside where it is less."""
    hidden = ((mask > 0) & (mask < 255)).any()
    visible = {"visible": encode(mask == 255)} if hidden else {}
    whole = orjson.dumps(encode(mask > 0)).decode()
    return replace(region, rle=whole, extra={**region.extra, **visible})
