"""Masks in COCO's run-length encoding, exactly: to and from pixels, polygons, areas and boxes.

A run-length mask is `{"size": [height, width], "counts": ...}`: lengths of runs down the columns,
beginning with zeros; as a list, or as COCO's text of 5-bit groups. Rules as in
https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
"""(H, W)."""
_SCALE = 5.0
"""COCO draws outlines on a grid five times finer than the pixels."""


def compress(counts: Sequence[int] | Counts) -> str:
    """Return run lengths as COCO's text.

    >>> compress([6, 1, 40, 4])
    '61X13'
    """
    runs = np.asarray(counts, np.int64)
    left = runs.copy()
    left[3:] -= runs[1:-2]
    groups, last = [], np.zeros(len(left), bool)
    while not last.all():
        group = left & 0x1F
        left = left >> 5
        more = np.where(group & 0x10, left != -1, left != 0)
        groups.append(np.where(last, 0, group + np.where(more, 0x20, 0) + 48))
        last |= ~more
    if not groups:
        return ""
    text = np.stack(groups, axis=1).ravel()
    return text[text > 0].astype(np.uint8).tobytes().decode("ascii")


def decompress(text: str) -> Counts:
    """Return the run lengths of COCO's text.

    Raises:
        ValueError: it ends within a number, or holds a character COCO does not write.

    >>> decompress("61X13").tolist()
    [6, 1, 40, 4]
    """
    counts: list[int] = []
    number, shift = 0, 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} does not belong in a compressed mask")
        number |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number, shift = 0, 0
    if shift:
        raise ValueError("a compressed mask ends within a number")
    return np.asarray(counts, np.int64)


def counts_of(rle: Mapping[str, Any]) -> Counts:
    """Return a mask's run lengths, compressed or not.

    Raises:
        ValueError: they are negative, or do not fill the picture.
    """
    counts = rle["counts"]
    runs = decompress(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    height, width = rle["size"]
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"runs fill {runs.sum()} pixels of {height} x {width}")
    return runs


def decode(rle: Mapping[str, Any]) -> Mask:
    """Return a mask's pixels, (H, W).

    >>> decode({"size": [2, 3], "counts": [1, 2, 3]}).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    runs = counts_of(rle)
    height, width = rle["size"]
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def encode(mask: Mask) -> dict[str, Any]:
    """Return a mask's compressed run lengths, as COCO's result files hold them.

    >>> encode(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': '13'}
    """
    height, width = mask.shape
    down = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(down[1:] != down[:-1]) + 1
    starts = np.concatenate(([0], edges, [down.size])) if down.size else np.zeros(1, np.int64)
    counts = np.diff(starts)
    if down.size and down[0]:
        counts = np.concatenate(([0], counts))
    return {"size": [height, width], "counts": compress(counts)}


def area(rle: Mapping[str, Any]) -> int:
    """Return a mask's pixels, without drawing it."""
    return int(counts_of(rle)[1::2].sum())


def bounds(rle: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return x0, y0, x1, y1 around a mask's pixels, the far edges included; None if it has none.

    >>> bounds({"size": [2, 3], "counts": [1, 2, 3]})
    (0.0, 0.0, 2.0, 2.0)
    """
    runs, height = counts_of(rle), int(rle["size"][0])
    ends = np.cumsum(runs)
    starts = ends - runs
    drawn = (np.arange(len(runs)) % 2 == 1) & (runs > 0)
    first, last = starts[drawn], ends[drawn] - 1
    if not len(first):
        return None
    left, right = first // height, last // height
    # A run that goes over a column's end covers its last row, and the next column's first.
    turns = (left < right).any()
    top = 0 if turns else (first % height).min()
    bottom = height - 1 if turns else (last % height).max()
    return float(left[0]), float(top), float(right[-1] + 1), float(bottom + 1)


def segments(numbers: NDArray[np.integer[Any]]) -> dict[int, tuple[int, dict[str, Any]]]:
    """Return number -> (pixels, compressed mask) of a picture of numbers, (H, W), in one pass."""
    height, width = numbers.shape
    down = numbers.ravel(order="F")
    edges = np.concatenate(([0], np.flatnonzero(down[1:] != down[:-1]) + 1, [down.size]))
    firsts, lengths = edges[:-1], np.diff(edges)
    values = down[firsts]
    order = np.argsort(values, kind="stable")
    found = {}
    for part in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        starts, sizes = firsts[part], lengths[part]
        ends = starts + sizes
        gaps = np.diff(np.concatenate(([0], starts))) - np.concatenate(([0], sizes[:-1]))
        counts = np.stack((gaps, sizes), axis=1).ravel()
        if ends[-1] < down.size:
            counts = np.append(counts, down.size - ends[-1])
        rle = {"size": [height, width], "counts": compress(counts)}
        found[int(values[part[0]])] = int(sizes.sum()), rle
    return found


def draw(polygon: Sequence[float], height: int, width: int) -> Mask:
    """Return the pixels of one polygon x0, y0, x1, y1, ... as COCO's own code draws it."""
    points = np.trunc(_SCALE * np.asarray(polygon, float).reshape(-1, 2) + 0.5).astype(np.int64)
    xs, ys = [], []
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        x, y = _line(int(x0), int(y0), int(x1), int(y1))
        xs.append(x)
        ys.append(y)
    x, y = np.concatenate(xs), np.concatenate(ys)
    crossed = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = np.where(x[crossed] < x[crossed - 1], x[crossed], x[crossed] - 1.0)
    column = (column + 0.5) / _SCALE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = (np.minimum(y[crossed], y[crossed - 1]) + 0.5) / _SCALE - 0.5
    row = np.ceil(np.clip(row, 0, height))
    places = np.sort((column * height + row)[inside].astype(np.int64))
    flips = np.zeros(height * width + 1, np.int64)
    np.add.at(flips, places, 1)
    down: Mask = np.cumsum(flips[:-1]) % 2 == 1
    return down.reshape(width, height).T


def cover(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    """Return the pixels of an object whose parts are these polygons, (height, width)."""
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        mask |= draw(polygon, height, width)
    return mask


def _line(x0: int, y0: int, x1: int, y1: int) -> tuple[Counts, Counts]:
    """Return the points of a line on the fine grid, both ends included, from first to last."""
    dx, dy = abs(x1 - x0), abs(y1 - y0)
    flat = dx >= dy
    flip = x0 > x1 if flat else y0 > y1
    if flip:
        x0, y0, x1, y1 = x1, y1, x0, y0
    steps = np.arange(max(dx, dy) + 1)
    if flip:
        steps = steps[::-1]
    if flat:
        slope = (y1 - y0) / dx if dx else 0.0
        return x0 + steps, np.trunc(y0 + slope * steps + 0.5).astype(np.int64)
    return np.trunc(x0 + (x1 - x0) / dy * steps + 0.5).astype(np.int64), y0 + steps


def outlines(mask: Mask) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Return a mask's outer rings and its holes as polygons along the pixels' edges.

    Rings run clockwise as seen, holes the other way; a polygon alone cannot say a hole.

    >>> outlines(np.array([[True, True]]))
    ([(0.0, 0.0, 2.0, 0.0, 2.0, 1.0, 0.0, 1.0)], [])
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    # Each edge between a pixel and its outside, walked with the mask on the right hand.
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (dy, dx), (start, end) in {
        (-1, 0): ((0, 0), (1, 0)),
        (0, 1): ((1, 0), (1, 1)),
        (1, 0): ((1, 1), (0, 1)),
        (0, -1): ((0, 1), (0, 0)),
    }.items():
        border = padded & ~np.roll(padded, (-dy, -dx), axis=(0, 1))
        for y, x in np.argwhere(border) - 1:
            edges.setdefault((int(x) + start[0], int(y) + start[1]), []).append(
                (int(x) + end[0], int(y) + end[1])
            )
    outer: list[tuple[float, ...]] = []
    holes: list[tuple[float, ...]] = []
    while edges:
        ring = _ring(edges)
        doubled = sum(
            x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)
        )
        flat = tuple(float(value) for point in ring for value in point)
        (outer if doubled > 0 else holes).append(flat)
    return outer, holes


def _ring(edges: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Take one closed walk out of the edges; its corners."""
    first = min(edges, key=lambda point: (point[1], point[0]))
    walk, here, heading = [first], first, (1, 0)
    while True:
        ways = edges[here]
        # Where two pixels meet at a corner, turn right: they are not one part.
        turn = (-heading[1], heading[0])
        there = (here[0] + turn[0], here[1] + turn[1])
        there = there if there in ways else ways[0]
        ways.remove(there)
        if not ways:
            del edges[here]
        step = (there[0] - here[0], there[1] - here[1])
        if step == heading and len(walk) > 1:
            walk[-1] = there
        else:
            walk.append(there)
        here, heading = there, step
        if here == first:
            return walk[:-1]
