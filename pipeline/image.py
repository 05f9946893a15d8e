"""Picture bytes -> tiles for the vision tower.

JPEGs are decoded at a half, a quarter or an eighth of their size where that is not below the target;
Pillow reads every other format. Tolerance, tested: against a full decode by Pillow and its bicubic
filter, photographs differ by less than 3 of 255 grey levels on average, 99 % of the values by at most
20; they differ most where a picture is a little over twice its target (elsewhere by 1.5 and 9).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from pipeline.policy import NEWLINE, ImagePolicy

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1."""
GREY = 128
"""Grey level around a letterboxed picture; transparency shows white."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a model gets of a picture under a policy."""

    tiles: Tensor
    """(tiles, 3, S, S) uint8; slices in reading order, overview last. Of tiles that keep their shape,
    the patches in reading order fill the square row by row; what is left is grey."""
    per_tile: int
    """Features of a tile."""
    visual: int
    """Visual tokens."""
    grids: Tensor | None = None
    """(tiles, 2): columns and rows of patches, of tiles that keep their shape."""
    order: NDArray[np.int64] | None = None
    """(visual,), where padding is cut away: `ImagePolicy.reading`."""
    fine: Tensor | None = None
    """(1, 3, F, F) uint8: a finer look."""


def decode(data: memoryview | bytes, policy: ImagePolicy, room: Tensor | None = None) -> Tensor:
    """Return the tiles of a picture, (tiles, 3, S, S) uint8; slices in reading order, overview last.

    They lie in memory as pixels are read: channels last. With `room`, (n, 3, S, S), the tiles are
    its first ones.

    Raises:
        ValueError, OSError: the bytes are no picture, or it has more tiles than there is room for.
    """
    return look(data, policy, room).tiles


def look(data: memoryview | bytes, policy: ImagePolicy, room: Tensor | None = None) -> Picture:
    """Return what a model gets of a picture, its tiles as `decode` gives them."""
    if plain := _is_plain(data):
        high, wide, *_ = simplejpeg.decode_jpeg_header(data)
        picture, orientation, stored = None, 1, (wide, high)
    else:
        picture = Image.open(io.BytesIO(data))
        orientation, stored = picture.getexif().get(0x0112, 1), picture.size
        plain = picture.format == "JPEG" and picture.mode in ("L", "RGB")
    width, height = stored if orientation < 5 else stored[::-1]
    seen = blank(width, height, policy, room, filled=False)

    def read(target: tuple[int, int]) -> Tensor:
        if plain or picture is None:
            return _jpeg(data, stored, orientation, target)
        return _other(picture, orientation)

    if policy.patch:
        _shaped(read, seen.tiles, width, height, policy)
        return seen
    columns, rows = policy.grid(width, height)
    side, tiles = policy.size, seen.tiles
    canvas = columns * side, rows * side
    inner = policy.inner(width, height, canvas)
    # The finer look is a picture of its own scale: what both need is read.
    finest = policy.inner(width, height, (policy.fine,) * 2) if policy.fine else inner
    pixels = read(max(inner, finest))
    if seen.fine is not None:
        _place(pixels, finest, seen.fine)
    if len(tiles) == 1:
        _place(pixels, inner, tiles)
        return seen
    whole = pixels_of(1, *canvas)
    _place(pixels, inner, whole)
    cut = whole.permute(0, 2, 3, 1).view(rows, side, columns, side, 3)
    tiles[:-1].view(rows, columns, 3, side, side).copy_(cut.permute(0, 2, 4, 1, 3))
    square = (side, side)
    shown = policy.inner(width, height, square) if policy.letterboxed_overview else square
    _place(pixels, shown, tiles[-1:])
    return seen


def blank(
    width: int,
    height: int,
    policy: ImagePolicy,
    room: Tensor | None = None,
    *,
    filled: bool = True,
) -> Picture:
    """Return grey in place of a picture of this size, or, not `filled`, room for it.

    Raises:
        ValueError: it has more tiles than there is room for.
    """
    count = int(policy.tiles([width], [height])[0])
    tiles = pixels_of(count, policy.size, policy.size) if room is None else room[:count]
    if len(tiles) < count:
        raise ValueError(f"{width} x {height} pixels make {count} tiles, {len(tiles)} were planned")
    fine = pixels_of(1, policy.fine, policy.fine) if policy.fine else None
    if filled:
        for pixels in (tiles, fine):
            if pixels is not None:
                pixels.fill_(GREY)
    return Picture(
        tiles=tiles,
        per_tile=policy.tokens,
        visual=int(policy.visual([width], [height])[0]) if policy.unpad else count * policy.tokens,
        grids=torch.tensor(policy.patches(width, height)) if policy.patch else None,
        order=policy.reading(width, height) if policy.unpad else None,
        fine=fine,
    )


def in_row(pictures: Sequence[Picture]) -> NDArray[np.int64]:
    """Return `order` of pictures one after the other, whose features are numbered through."""
    numbers, first = [np.zeros(0, np.int64)], 0
    for picture in pictures:
        assert picture.order is not None
        numbers.append(np.where(picture.order == NEWLINE, NEWLINE, picture.order + first))
        first += len(picture.tiles) * picture.per_tile
    return np.concatenate(numbers)


def _shaped(
    read: Callable[[tuple[int, int]], Tensor],
    tiles: Tensor,
    width: int,
    height: int,
    policy: ImagePolicy,
) -> None:
    """Write slices of their own shape, and an overview of its own, into square tiles."""
    assert policy.patch
    shapes, (columns, rows) = policy.patches(width, height), policy.grid(width, height)
    across, down = (count * policy.patch for count in shapes[0])
    pixels = read((columns * across, rows * down))
    whole = pixels_of(1, columns * across, rows * down)
    _resize(pixels, whole)
    slices = _cut(whole, columns, rows)
    for tile, one in zip(tiles, slices, strict=False):
        _lay(one, tile, policy.patch)
    if len(tiles) > len(slices):
        overview = pixels_of(1, *(count * policy.patch for count in shapes[-1]))
        _resize(pixels, overview)
        _lay(overview[0], tiles[-1], policy.patch)


def _cut(grid: Tensor, columns: int, rows: int) -> Tensor:
    """(1, 3, rows * H, columns * W) -> (rows * columns, 3, H, W), in reading order."""
    high, wide = grid.shape[2] // rows, grid.shape[3] // columns
    tiles = grid.reshape(3, rows, high, columns, wide).permute(1, 3, 0, 2, 4)
    return tiles.reshape(rows * columns, 3, high, wide)


def _lay(one: Tensor, tile: Tensor, patch: int) -> None:
    """Lay the patches of a slice of any shape, (3, H, W), one after the other into a square tile."""
    across = tile.shape[2] // patch
    patches = _cut(one[None], one.shape[2] // patch, one.shape[1] // patch)
    cells = torch.full((across**2, *patches.shape[1:]), GREY, dtype=torch.uint8)
    cells[: len(patches)] = patches
    whole = cells.view(across, across, *patches.shape[1:]).permute(2, 0, 3, 1, 4)
    tile.copy_(whole.reshape(tile.shape))


def pixels_of(count: int, width: int, height: int) -> Tensor:
    """Return room for pixels, (count, 3, height, width) uint8, channels last in memory."""
    return torch.empty((count, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def _place(pixels: Tensor, size: tuple[int, int], canvas: Tensor) -> None:
    """Write pixels in this (width, height) into the middle of a canvas, grey around them."""
    width, height = size
    high, wide = canvas.shape[2:]
    if (wide, high) != size:
        canvas.fill_(GREY)
        left, top = (wide - width) // 2, (high - height) // 2
        canvas = canvas[:, :, top : top + height, left : left + width]
    _resize(pixels, canvas)


def normalise(tiles: Tensor) -> Tensor:
    """Return uint8 pixels as float32 from -1 to 1."""
    return tiles.float().div_(127.5).sub_(1.0)


def _is_plain(data: memoryview | bytes) -> bool:
    """Say whether these bytes are a JPEG of three channels that is stored upright.

    Pillow takes a while to look at a file; where it may know better (an APP1 segment with an
    orientation, other channels), it is asked.
    """
    place = 2
    if bytes(data[:2]) != b"\xff\xd8":
        return False
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            # What follows are tables and the scan, which say nothing of this.
            return data[place + 9] == 3
        if marker == 0xE1 or not 0xC0 <= marker < 0xFF:
            return False
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return False


def _jpeg(
    data: memoryview | bytes, stored: tuple[int, int], orientation: int, target: tuple[int, int]
) -> Tensor:
    """Return the pixels of a JPEG, upright, and not smaller than `target` if they were not."""
    scale = _scale(stored, target if orientation < 5 else target[::-1])
    array: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        min_height=-(-stored[1] // scale),
        min_width=-(-stored[0] // scale),
        fastdct=True,
        fastupsample=True,
    )
    if orientation != 1:
        array = np.array(_upright(Image.fromarray(array), orientation))
    return _channels(array)


def _other(picture: Image.Image, orientation: int) -> Tensor:
    """Return the pixels of a picture that Pillow reads, upright."""
    upright = _upright(picture, orientation)
    if upright.mode in ("P", "LA", "RGBA", "PA"):
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(white, layer)
    elif upright.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip it to white.
        upright = Image.fromarray((np.asarray(upright, np.int64) >> 8).astype(np.uint8))
    return _channels(np.array(upright.convert("RGB")))


def _channels(array: NDArray[np.uint8]) -> Tensor:
    """Return (H, W, 3) as (1, 3, H, W)."""
    # The picture's axis first: else torch does not see that channels are last, and moves them.
    return torch.from_numpy(array)[None].permute(0, 3, 1, 2)


def _scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """Return by how much a decode may shrink a picture: 8, 4, 2 or 1.

    libjpeg's other scales (such as 6/8) have no vector code: they take longer than the full decode.

    >>> _scale((2048, 1536), (336, 336)), _scale((448, 448), (336, 336))
    (4, 1)
    """
    for scale in (8, 4, 2):
        if all(side >= wanted * scale for side, wanted in zip(size, target, strict=True)):
            return scale
    return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return picture
    tagged = picture.copy()
    tagged.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(tagged)


def _resize(pixels: Tensor, canvas: Tensor) -> None:
    """Write pixels over the whole of a canvas."""
    if pixels.shape == canvas.shape:
        canvas.copy_(pixels)
    elif canvas.is_contiguous(memory_format=torch.channels_last):
        # What `interpolate` calls, but without a copy of its own.
        torch.ops.aten._upsample_bicubic2d_aa.out(
            pixels, canvas.shape[2:], False, None, None, out=canvas
        )
    else:
        size = (canvas.shape[2], canvas.shape[3])
        resized = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        canvas.copy_(resized)
