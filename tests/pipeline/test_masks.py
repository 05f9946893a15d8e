"""Masks: COCO's run lengths against examples worked out by hand, and back without a pixel lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.masks import (
    area,
    bounds,
    compress,
    counts_of,
    cover,
    decode,
    decompress,
    draw,
    encode,
    outlines,
    segments,
)
from pipeline.polygons import POLYGONS

patient = settings(deadline=None)
"""A machine under load is slow, not wrong."""
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=24)
masks = arrays.arrays(bool, SHAPES)

RING = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 1, 1, 0],
    ],
    bool,
)
"""Down the columns: 4 zeros; 0 1 1 1; 0 1 0 1; 0 1 1 1; 4 zeros."""
RING_COUNTS = [5, 3, 1, 1, 1, 1, 1, 3, 4]


def test_a_ring_is_encoded_down_its_columns() -> None:
    rle = {"size": [4, 5], "counts": RING_COUNTS}
    assert np.array_equal(decode(rle), RING)
    assert encode(RING) == {"size": [4, 5], "counts": compress(RING_COUNTS)}
    assert area(rle) == 8
    assert bounds(rle) == (1, 1, 4, 4)


def test_groups_of_five_bits_are_worked_by_hand() -> None:
    # 6 -> '6'; 1 -> '1'; 40 = 01 01000 -> 8 with more to come: 8+32+48='X', then 1 -> '1';
    # the fourth is said as a difference to the second: 4 - 1 = 3 -> '3'.
    assert compress([6, 1, 40, 4]) == "61X13"
    # A difference below zero: 1 - 40 = -39 = ...10 11001 -> 25+32+48='i', then -2 -> 30+48='N'.
    assert compress([1, 40, 1, 1]) == "1X11iN"
    assert decompress("1X11iN").tolist() == [1, 40, 1, 1]


@pytest.mark.parametrize(("text", "words"), [("6X", "ends within"), ("6 1", "does not belong")])
def test_broken_text_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decompress(text)


@pytest.mark.parametrize("counts", [[5], [-1, 7], [3, 4]])
def test_runs_that_do_not_fill_the_picture_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="pixels of 2 x 3"):
        counts_of({"size": [2, 3], "counts": counts})


@patient
@given(masks)
def test_no_pixel_is_lost(mask: np.ndarray) -> None:
    rle = encode(mask)
    assert np.array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()
    plain = {"size": rle["size"], "counts": counts_of(rle).tolist()}
    assert np.array_equal(decode(plain), mask)
    assert compress(plain["counts"]) == rle["counts"]
    box = bounds(rle)
    if box is None:
        assert not mask.any()
    else:
        x0, y0, x1, y1 = map(int, box)
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0:y1, x0].any()
        assert mask[y1 - 1, x0:x1].any()


@patient
@given(arrays.arrays(np.int32, SHAPES, elements=st.integers(0, 3)))
def test_segments_of_a_picture_of_numbers_share_it_out(numbers: np.ndarray) -> None:
    found = segments(numbers)
    assert set(found) == set(np.unique(numbers).tolist())
    for number, (pixels, rle) in found.items():
        assert rle == encode(numbers == number)
        assert pixels == area(rle)


@patient
@given(masks)
def test_rings_and_holes_draw_the_mask_again(mask: np.ndarray) -> None:
    outer, holes = outlines(mask)
    again = np.zeros(mask.shape, int)
    for ring in outer + holes:
        again += draw(ring, *mask.shape)
    assert np.array_equal(again % 2 == 1, mask)


def test_a_hole_is_told_from_a_ring() -> None:
    outer, holes = outlines(RING)
    assert outer == [(1, 1, 4, 1, 4, 4, 1, 4)]
    assert [sorted(zip(h[::2], h[1::2], strict=True)) for h in holes] == [
        [(2, 2), (2, 3), (3, 2), (3, 3)]
    ]


def test_a_rectangle_covers_the_pixels_between_its_edges() -> None:
    mask = draw((1, 1, 4, 1, 4, 3, 1, 3), 5, 6)
    wanted = np.zeros((5, 6), bool)
    wanted[1:3, 1:4] = True
    assert np.array_equal(mask, wanted)


def test_an_object_in_parts_covers_all_of_them_and_its_area_and_box_agree() -> None:
    parts = [(1, 1, 4, 1, 4, 3, 1, 3), (6, 2, 8, 2, 8, 5, 6, 5), (3, 2, 7, 2, 7, 3, 3, 3)]
    rle = encode(cover(parts, 6, 9))
    # 6 and 6 pixels, and 4 across, of which two are the others'.
    assert area(rle) == 6 + 6 + 4 - 2
    assert bounds(rle) == (1, 1, 8, 5)
    assert not decode(encode(cover([], 6, 9))).any()


points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=4, max_size=4)


@patient
@given(
    st.sampled_from(sorted(POLYGONS)),
    st.integers(16, 4000),
    st.integers(16, 4000),
    st.lists(points, min_size=1, max_size=3),
)
def test_polygons_come_back_within_half_a_bin(
    name: str, width: int, height: int, many: list[list[tuple[float, float]]]
) -> None:
    pixels = [[v for x, y in polygon for v in (x * width, y * height)] for polygon in many]
    form = POLYGONS[name]
    found = form.read(form.write(pixels, width, height), width, height)
    assert len(found) == len(pixels)
    bound = np.tile(form.grid.error(width, height), 4) + 1e-6
    for back, polygon in zip(found, pixels, strict=True):
        assert np.all(np.abs(np.subtract(back, polygon)) <= bound)


def test_pix2seq_separates_parts_and_puts_y_first() -> None:
    parts = [(0, 0, 10, 0, 10, 20), (0, 20, 5, 20, 5, 10)]
    text = POLYGONS["pix2seq"].write(parts, 10, 20)
    assert text == "1000 1000 1000 1999 1999 1999 40 1999 1000 1999 1500 1500 1500"


def test_a_quadrangle_of_three_points_is_refused() -> None:
    with pytest.raises(ValueError, match="writes 4 points, not 3"):
        POLYGONS["qwen-vl"].write([(0, 0, 1, 0, 1, 1)], 10, 10)


@patient
@given(st.sampled_from(sorted(POLYGONS)), st.text())
def test_no_text_breaks_the_reading_of_polygons(name: str, text: str) -> None:
    assert isinstance(POLYGONS[name].read(text, 10, 10), list)
