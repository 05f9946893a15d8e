"""What a picture becomes beside square tiles: padding cut away, slices of their own shape, finer looks."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from transformers.models.llava_next.modeling_llava_next import unpad_image
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from pipeline.image import blank, in_row, look
from pipeline.policies import POLICIES
from pipeline.policy import NEWLINE, ImagePolicy

LLAVA, MINICPM = POLICIES["llava-next-unpad"], POLICIES["minicpm-v-2.6-shaped"]
SIZE = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


def published(width: int, height: int) -> tuple[int, list[int]]:
    """Return the count and the features in their order, as LLaVA-NeXT's code has them."""
    columns, rows = LLAVA.grid(width, height)
    counter: Any = LlavaNextProcessor._get_unpadded_features
    features, newlines = counter(None, height, width, 24, 24, rows, columns)
    numbers = torch.arange(rows * columns * 576).view(1, rows, columns, 24, 24)
    plane = numbers.permute(0, 1, 3, 2, 4).reshape(1, rows * 24, columns * 24)
    cutter: Any = unpad_image
    kept = cutter(plane, (height, width))[0]
    lines = torch.cat([kept, torch.full((len(kept), 1), NEWLINE)], dim=1)
    base = list(range(rows * columns * 576, (rows * columns + 1) * 576))
    return features + newlines + 576, base + lines.flatten().tolist()


@settings(deadline=None, max_examples=60)
@given(SIZE)
def test_the_kept_features_are_those_of_the_published_code(size: tuple[int, int]) -> None:
    count, features = published(*size)
    assert int(LLAVA.visual([size[0]], [size[1]])[0]) == count == len(features)
    assert LLAVA.reading(*size).tolist() == features


def test_worked_examples_of_336_pixel_grids() -> None:
    for size, tokens in {
        (672, 672): 576 + 48 * 49,
        (336, 672): 576 + 48 * 25,
        (1000, 500): 576 + 24 * 49,
        (800, 600): 576 + 36 * 49,
        (1920, 1080): 576 + 28 * 49,
        (2000, 400): 576 + 14 * 73,
    }.items():
        assert int(LLAVA.visual([size[0]], [size[1]])[0]) == tokens, size


@settings(deadline=None, max_examples=40)
@given(st.lists(SIZE, min_size=1, max_size=8), st.sampled_from([4, 9, 144]), st.booleans())
def test_counts_of_many_pictures_are_the_lengths_of_each_ones_features(
    sizes: list[tuple[int, int]], tokens: int, single: bool
) -> None:
    shapes = ((1, 1), (2, 1), (1, 2), (2, 2)) if single else ()
    policy = ImagePolicy(kind="anyres", size=28, tokens=tokens, unpad=True, shapes=shapes)
    counts = policy.visual(*np.array(sizes).T)
    for (width, height), count in zip(sizes, counts.tolist(), strict=True):
        reading = policy.reading(width, height)
        tiles = int(policy.tiles([width], [height])[0])
        kept = reading[reading != NEWLINE]
        assert len(reading) == count <= (tiles + 1) * tokens + 2 * math.isqrt(tokens)
        assert len(set(kept.tolist())) == len(kept)
        # Of a picture as thin as a hair, LLaVA-NeXT keeps newlines alone beside the overview.
        assert kept.max(initial=0) < tiles * tokens


def saved(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_features_that_are_cut_away_saw_only_grey() -> None:
    policy = ImagePolicy(kind="anyres", size=32, tokens=16, unpad=True)
    white = np.full((40, 100, 3), 255, np.uint8)
    picture = look(saved(white), policy)
    assert picture.order is not None
    # A feature sees 8 x 8 pixels of a tile.
    cells = picture.tiles.unfold(2, 8, 8).unfold(3, 8, 8)[:, 0].float().mean((-1, -2)).flatten()
    kept = picture.order[picture.order != NEWLINE]
    assert (cells[kept] > 128).all()
    left = np.setdiff1d(np.arange(len(cells)), kept)
    assert len(left)
    assert (cells[left] < 200).all()
    two = in_row([picture, picture])
    shift = np.where(picture.order == NEWLINE, 0, len(picture.tiles) * 16)
    assert (two[len(picture.order) :] - two[: len(picture.order)] == shift).all()


@settings(deadline=None, max_examples=80)
@given(SIZE)
def test_slices_keep_their_aspect_ratio_near_the_area(size: tuple[int, int]) -> None:
    width, height = size
    columns, rows = MINICPM.grid(width, height)
    shapes = MINICPM.patches(width, height)
    assert len(shapes) == int(MINICPM.tiles([width], [height])[0])
    for (wide, high), ratio in zip(
        (shapes[0], shapes[-1]), (width * rows / (height * columns), width / height), strict=True
    ):
        assert 1 <= wide * high <= 1024
        if 1 / 8 < ratio < 8:
            assert wide * high > 1024 * 0.85
            assert wide / high == pytest.approx(ratio, rel=0.13)


@pytest.mark.parametrize("size", [(240, 160), (90, 200), (64, 64), (300, 40)])
def test_stitched_patches_are_the_picture(size: tuple[int, int]) -> None:
    width, height = size
    policy = ImagePolicy(kind="adaptive", size=64, tokens=4, max_slices=6, patch=8)
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    original = np.stack([across, down, 255 - across], -1).round().astype(np.uint8)
    picture = look(saved(original), policy)
    assert picture.grids is not None
    slices = []
    for tile, (columns, rows) in zip(picture.tiles, picture.grids.tolist(), strict=True):
        cells = tile.unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).flatten(0, 1)
        used = cells[: columns * rows].view(rows, columns, 3, 8, 8)
        assert (cells[columns * rows :] == 128).all()
        slices.append(used.permute(0, 3, 1, 4, 2).reshape(rows * 8, columns * 8, 3).numpy())
    wide, high = policy.grid(width, height)
    parts = slices[: wide * high]
    lines = [np.concatenate(parts[r * wide : (r + 1) * wide], axis=1) for r in range(high)]
    for whole in (np.concatenate(lines), slices[-1]):
        back = Image.fromarray(whole).resize((width, height), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(back, float) - original).mean() < 4


@pytest.mark.parametrize("kind", ["resize", "pad"])
def test_a_finer_look_shows_the_same(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8)
    policy = ImagePolicy.model_validate({"kind": kind, "size": 32, "tokens": 4, "fine": 128})
    picture = look(saved(noise), policy)
    assert picture.fine is not None
    assert picture.fine.shape == (1, 3, 128, 128)
    coarse = torch.nn.functional.avg_pool2d(picture.fine.float(), 4)
    assert (coarse - picture.tiles.float()).abs().mean() < 12
    alone = look(saved(noise), ImagePolicy.model_validate({"kind": kind, "size": 128}))
    assert torch.equal(picture.fine, alone.tiles)


@pytest.mark.parametrize("name", ["llava-next-unpad", "minicpm-v-2.6-shaped", "cogagent"])
def test_grey_takes_the_places_of_a_picture(name: str) -> None:
    data = saved(np.zeros((300, 700, 3), np.uint8))
    there, grey = look(data, POLICIES[name]), blank(700, 300, POLICIES[name])
    assert there.visual == grey.visual
    assert there.tiles.shape == grey.tiles.shape
    for one, other in ((there.grids, grey.grids), (there.order, grey.order)):
        assert np.array_equal([] if one is None else one, [] if other is None else other)
    assert np.shape([] if there.fine is None else there.fine) == np.shape(
        [] if grey.fine is None else grey.fine
    )


def test_what_does_not_fit_is_explained_and_older_policies_are_as_they_were() -> None:
    for values, problem in (
        ({"kind": "pad", "unpad": True}, "`unpad` is for anyres"),
        ({"kind": "anyres", "tokens": 12, "unpad": True}, "a square number"),
        ({"kind": "resize", "patch": 14}, "`patch` is for adaptive"),
        ({"kind": "adaptive", "size": 440, "patch": 14}, "divides `size`"),
        ({"kind": "slices", "fine": 448}, "`fine` is for resize and pad"),
    ):
        with pytest.raises(ValidationError, match=problem):
            ImagePolicy.model_validate(values)
    assert not {"unpad", "patch", "fine"} & set(ImagePolicy().model_dump(mode="json"))
    for name in ("llava-next-unpad", "minicpm-v-2.6-shaped", "cogagent"):
        again = ImagePolicy.model_validate(POLICIES[name].model_dump(mode="json"))
        assert again == POLICIES[name]
        assert again.fingerprint != POLICIES["llava-next"].fingerprint
