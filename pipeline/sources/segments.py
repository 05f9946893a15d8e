"""Masks that a release keeps as PNG files -> run lengths, so that the catalog holds them exactly.

A PNG's numbers are class or segment ids, coded into the colours. Each id's pixels become one COCO
run-length mask: no pixel is lost, and what no mask covers is id 0. Masks are annotations, not
pictures: they are read with the annotations.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from pipeline.limits import MAX_BYTES, MAX_PIXELS
from pipeline.masks import segments
from pipeline.sources.base import Bad

Colours = NDArray[np.uint8]
"""(H, W, 3), red green blue."""


def read_colours(file: Path) -> Colours:
    """Return a mask file's colours, (H, W, 3), never its palette's numbers.

    Raises:
        Bad: `missing_mask`, `damaged_mask`.
    """
    return colours_of(_read(file), file.name)


def read_numbers(file: Path) -> NDArray[np.int64]:
    """Return the numbers of a mask file with one channel, (H, W).

    Raises:
        Bad: `missing_mask`, `damaged_mask`.
    """
    return numbers_of(_read(file), file.name)


def colours_of(data: bytes, name: str) -> Colours:
    """Return the colours of a mask's bytes; `name` is for the message.

    Raises:
        Bad: `damaged_mask`.
    """
    colours: Colours = _decoded(data, name, "RGB")
    return colours


def numbers_of(data: bytes, name: str) -> NDArray[np.int64]:
    """Return the numbers of a mask's bytes; `name` is for the message.

    Raises:
        Bad: `damaged_mask`.
    """
    numbers: NDArray[np.int64] = _decoded(data, name, None).astype(np.int64)
    return numbers


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise Bad("missing_mask", f"the mask {file.name} is not there")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise Bad("damaged_mask", f"the mask {file.name} has more than {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise Bad("damaged_mask", f"the mask {file.name} cannot be read: {error}") from error


def _decoded(data: bytes, name: str, mode: str | None) -> Any:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Bad("damaged_mask", f"the mask {name} is too large to be one")
            if mode is None and image.mode not in ("L", "P", "I", "I;16", "1"):
                raise Bad("damaged_mask", f"the mask {name} has colours, expected numbers")
            return np.asarray(image if mode is None else image.convert(mode))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, Bad):
            raise
        raise Bad("damaged_mask", f"the mask {name} does not decode: {error}") from error


def panoptic_ids(colours: Colours) -> NDArray[np.int64]:
    """Return COCO's segment ids, R + 256 G + 65536 B; 0 is void.

    >>> panoptic_ids(np.array([[[1, 2, 3]]], np.uint8)).tolist()
    [[197121]]
    """
    red, green, blue = (colours[..., channel].astype(np.int64) for channel in range(3))
    ids: NDArray[np.int64] = red + 256 * green + 65536 * blue
    return ids


def masks_of(file: Path, ids: Callable[[Colours], NDArray[np.int64]]) -> dict[int, tuple[int, str]]:
    """Return id -> (pixels, run lengths as JSON text) of a mask file, without id 0.

    Raises:
        Bad: `missing_mask`, `damaged_mask`.
    """
    return {
        number: (pixels, orjson.dumps(rle).decode())
        for number, (pixels, rle) in segments(ids(read_colours(file))).items()
        if number
    }


def masked(masks: dict[int, tuple[int, str]] | None, number: int, area: Any) -> dict[str, Any]:
    """Return a region's mask and, where it differs from the stated area, its pixels.

    Raises:
        Bad: the mask file has no such segment.
    """
    if masks is None:
        return {}
    if number not in masks:
        raise Bad("no_segment", f"the mask has no pixel of segment {number}")
    pixels, rle = masks[number]
    return {"rle": rle, "pixels": {} if pixels == area else {"pixels": pixels}}
