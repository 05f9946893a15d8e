"""What region readers share: boxes and masks as typed fields, flags, and answers that list regions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from catalog.record import Record, Region, region_mark
from pipeline.boxes import BOXES
from pipeline.grids import Box, Fractions
from pipeline.limits import BOX_TOLERANCE
from pipeline.sources.base import Bad

FRACTIONS = "fractions"
"""Boxes as fractions of the picture's sides, x0 y0 x1 y1."""


def numbers(value: Any, key: str, count: int | None = None) -> tuple[float, ...]:
    """Return a list of finite numbers, so many if a count is given.

    Raises:
        Bad: it is none.
    """
    wanted = f"{count} numbers" if count is not None else "numbers"
    if not isinstance(value, list | tuple) or count not in (None, len(value)):
        raise Bad("wrong_type", f"{key!r} is {value!r:.80}, expected {wanted}")
    # Sets of types and sums, for large files hold a hundred million coordinates.
    if not set(map(type, value)) <= {int, float}:
        odd = next(number for number in value if type(number) not in (int, float))
        raise Bad("wrong_type", f"{key!r} holds {odd!r:.40}, expected {wanted}")
    try:
        found = tuple(map(float, value))
    except OverflowError as error:
        raise Bad("bad_box", f"{key!r} holds a number too large for any picture") from error
    if not math.isfinite(sum(map(abs, found))):
        raise Bad("bad_box", f"{key!r} holds a number that is not finite")
    return found


def xyxy(value: Any, key: str = "bbox") -> Box:
    """Return a box given as its corners."""
    x0, y0, x1, y1 = numbers(value, key, 4)
    return x0, y0, x1, y1


def xywh(value: Any, key: str = "bbox") -> Box:
    """
    >>> xywh([10, 20, 30, 40])
    (10.0, 20.0, 40.0, 60.0)
    """
    x, y, width, height = numbers(value, key, 4)
    return x, y, x + width, y + height


def flags(box: Box, width: float | None, height: float | None) -> dict[str, bool]:
    """Return what is odd about a box that is kept as given.

    `outside_picture` says that it leaves the picture by the release's own size of it.

    >>> flags((0, 0, 0, 9), 10, 10), flags((0, 0, 12, 9), 10, 10)
    ({'degenerate': True, 'nothing_inside': True}, {'outside_picture': True})
    """
    found = {}
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        found["degenerate"] = True
    if width is not None and height is not None:
        if (
            min(x0, y0) < -BOX_TOLERANCE
            or x1 > width + BOX_TOLERANCE
            or y1 > height + BOX_TOLERANCE
        ):
            found["outside_picture"] = True
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            found["nothing_inside"] = True
    return found


def drawable(region: Region) -> bool:
    """Tell whether a region's box covers some of its picture."""
    return region.box is not None and not (
        region.extra.get("degenerate") or region.extra.get("nothing_inside")
    )


def segmentation(value: Any) -> dict[str, Any]:
    """Return a COCO segmentation as a region's fields: polygons, or run lengths as JSON text.

    Raises:
        Bad: it is neither.
    """
    if value is None:
        return {}
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        numbers(size, "size", 2)
        if not isinstance(counts, str):
            numbers(counts, "counts")
        return {"rle": orjson.dumps(value).decode()}
    if not isinstance(value, list):
        raise Bad(
            "wrong_type", f"'segmentation' is {value!r:.80}, expected polygons or run lengths"
        )
    polygons = tuple(numbers(polygon, "segmentation") for polygon in value)
    if odd := next((p for p in polygons if len(p) % 2), None):
        raise Bad("wrong_type", f"a polygon has {len(odd)} numbers, expected x y pairs")
    return {"polygons": polygons}


def listing(groups: Mapping[str, Sequence[int]]) -> str:
    """Return the answer that lists regions by name, one name a line.

    >>> listing({"cat": [0, 2], "cup": []})
    'cat: <region:0,2>\\ncup: none'
    """
    return "\n".join(
        f"{name}: {region_mark(*places) if places else 'none'}" for name, places in groups.items()
    )


def readable(name: str) -> str:
    """Return a category's name as one would say it.

    >>> readable("car_(automobile)"), readable("sky-other-merged"), readable("door-stuff")
    ('car (automobile)', 'sky', 'door')
    """
    for tail in ("-merged", "-other", "-stuff"):
        name = name.removesuffix(tail)
    return name.replace("_", " ")


def listed(regions: Sequence[Region]) -> dict[str, list[int]]:
    """Return name -> places of the regions an answer may list: crowds and boxes to ignore may not."""
    return by_name(
        (readable(region.label), place)
        for place, region in enumerate(regions)
        if drawable(region) and not region.extra.get("iscrowd") and not region.extra.get("ignore")
    )


def relative_box(values: Sequence[float], convention: str) -> dict[str, Any]:
    """Return a region's extra fields that say a box in a convention relative to the picture.

    Ingest places it in pixels once the picture's size is measured; the numbers stay as they came.
    """
    return {"bbox": list(values), "convention": convention}


def placed(record: Record, sizes: Sequence[tuple[int, int]]) -> Record:
    """Return a record whose relative boxes stand in pixels of pictures of these (width, height).

    Boxes that were written into text are mended as a model's are: corners put in order (`swapped`)
    and numbers beyond the last cut to the picture (`clipped`); `bbox` has them as they came.
    """
    if not any("convention" in region.extra for region in record.regions):
        return record
    return replace(record, regions=tuple(_placed(region, sizes) for region in record.regions))


def _placed(region: Region, sizes: Sequence[tuple[int, int]]) -> Region:
    given = region.extra.get("bbox")
    grid = _grid(region.extra.get("convention"))
    if grid is None or not isinstance(given, list) or not 0 <= region.image < len(sizes):
        return region
    width, height = sizes[region.image]
    x0, y0, x1, y1 = grid.place(given, width, height)
    if region.extra["convention"] == FRACTIONS:
        return replace(region, box=(x0, y0, x1, y1))
    left, right, top, bottom = *sorted((x0, x1)), *sorted((y0, y1))
    odd = {"swapped": True} if x0 > x1 or y0 > y1 else {}
    inside = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    # One that lies elsewhere altogether is not mended.
    if (left, top, right, bottom) != inside and inside[0] <= inside[2] and inside[1] <= inside[3]:
        left, top, right, bottom = inside
        odd["clipped"] = True
    return replace(region, box=(left, top, right, bottom), extra={**region.extra, **odd})


def _grid(convention: object) -> Fractions | None:
    if convention == FRACTIONS:
        return Fractions(bins=1)
    form = BOXES.get(convention) if isinstance(convention, str) else None
    return form.grid if form is not None and isinstance(form.grid, Fractions) else None


def by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Gather places by name, names in order of their first.

    >>> by_name([("cat", 0), ("cup", 1), ("cat", 2)])
    {'cat': [0, 2], 'cup': [1]}
    """
    groups: dict[str, list[int]] = {}
    for name, place in pairs:
        groups.setdefault(name, []).append(place)
    return groups
