"""What location tokens point at: a box for each, and a mask where the record has one (Pix2emb).

NExT-Chat, https://arxiv.org/abs/2311.04498: a location is one token. In a row of ids it is `LOCATION`;
the k-th of them points at the row's k-th spot.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline import masks
from pipeline.boxes import BOXES

LOCATION = -2
"""Stands for a location among token ids."""
LOCATION_MARK = "\ufdd1"
"""Stands for a location in text that becomes tokens: a Unicode noncharacter."""
PIX2EMB = "pix2emb"
"""The convention that makes boxes location tokens."""
SIDE = 28
"""Cells of a mask a side, over its box: as in Mask R-CNN, https://arxiv.org/abs/1703.06870."""
SPOT = np.dtype(
    [("box", "<f4", (4,)), ("masked", "u1"), ("mask", "u1", (SIDE * SIDE // 8,))], align=False
)
"""x0, y0, x1, y1 in fractions of the picture; whether there is a mask; its cells as bits, row by row."""
Spots = NDArray[np.void]
NONE: Spots = np.zeros(0, SPOT)


def take(text: str, row: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]], Spots]:
    """Put `LOCATION_MARK` where the text spells boxes; return it, the places (start, end) and the spots.

    A box that is one of the row's regions brings the region's mask.
    """
    form = BOXES[PIX2EMB]
    found = list(form.pattern.finditer(text))
    spots = np.zeros(len(found), SPOT)
    drawn = _drawn(row) if found else {}
    for spot, match in zip(spots, found, strict=True):
        # Fractions: a picture of one pixel.
        spot["box"] = form.read(match[0], 1, 1)[0]
        if (region := drawn.get(match[0])) is not None:
            spot["masked"] = 1
            spot["mask"] = np.packbits(_cells(region, row))
    places = [match.span() for match in found]
    return form.pattern.sub(LOCATION_MARK, text), places, spots


def painted(cells: NDArray[np.bool_], box: Sequence[float], width: int, height: int) -> masks.Mask:
    """Return the mask, (height, width), of cells over a box in pixels.

    >>> painted(np.eye(2, dtype=bool), (2, 0, 4, 2), 4, 2).astype(int).tolist()
    [[0, 0, 1, 0], [0, 0, 0, 1]]
    """
    mask, within, cell = np.zeros((height, width), bool), [], []
    edges = (box[1], box[3]), (box[0], box[2])
    for (low, high), side, count in zip(edges, mask.shape, cells.shape, strict=True):
        middles = np.arange(side) + 0.5
        inner = (low <= middles) & (middles < high)
        within.append(inner)
        cell.append(((middles[inner] - low) / (high - low) * count).astype(int))
    mask[np.ix_(*within)] = cells[np.ix_(*cell)]
    return mask


def as_hex(cells: ArrayLike) -> str:
    """Return the bits of cells, (SIDE, SIDE) bool, row by row."""
    return np.packbits(np.asarray(cells, bool)).tobytes().hex()


def from_hex(text: str) -> NDArray[np.bool_]:
    """Return cells, (SIDE, SIDE), from their bits."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits.astype(bool).reshape(SIDE, SIDE)


def moved(place: int, taken: Sequence[tuple[int, int]]) -> int:
    """Return where a character of a text stands after its boxes became marks.

    >>> moved(20, [(2, 12), (30, 40)])
    11
    """
    return place - sum(end - start - len(LOCATION_MARK) for start, end in taken if end <= place)


def spell(boxes: Sequence[Sequence[float]]) -> list[str]:
    """Return the texts of boxes in fractions of the picture."""
    return [BOXES[PIX2EMB].write(box, 1, 1) for box in boxes]


def unspell(text: str) -> str:
    """Take a text's own location marks away: they may only come from boxes."""
    return re.sub(LOCATION_MARK, "\ufffd", text)


def _drawn(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the regions with a mask, by how their boxes are spelt."""
    return {
        BOXES[PIX2EMB].write(region["box"], *_size(region, row)): region
        for region in reversed(row["regions"])
        if region["box"] is not None
        and region["image"] < row["n_images"]
        and (region["polygons"] or region["rle"])
    }


def _size(region: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[int, int]:
    return row["widths"][region["image"]], row["heights"][region["image"]]


def mask_of(region: Mapping[str, Any], row: Mapping[str, Any]) -> masks.Mask:
    """Return the mask, (height, width), of a region with polygons or run lengths."""
    if region["polygons"]:
        width, height = _size(region, row)
        return masks.cover(region["polygons"], height, width)
    return masks.decode(json.loads(region["rle"]))


def _cells(region: Mapping[str, Any], row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return a region's mask, (SIDE, SIDE), each cell as at its middle."""
    mask = mask_of(region, row)
    x0, y0, x1, y1 = region["box"]
    steps = (np.arange(SIDE) + 0.5) / SIDE
    xs, ys = (
        np.clip((low + steps * (high - low)).astype(int), 0, side - 1)
        for low, high, side in ((x0, x1, mask.shape[1]), (y0, y1, mask.shape[0]))
    )
    return mask[np.ix_(ys, xs)]
