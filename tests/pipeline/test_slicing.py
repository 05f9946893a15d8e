"""Slices: the grids that published models choose, and every slice's place in the picture."""

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import (
    MiniCPMV4_6ImageProcessorPil,
)

from catalog.errors import UserError
from pipeline.image import decode
from pipeline.policies import POLICIES, find_policy, parse_size, patch_tokens
from pipeline.policy import ImagePolicy

SIZES = st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=1, max_size=30)


def cost(name: str, width: int, height: int) -> tuple[tuple[int, int], int, int]:
    """Return grid, tiles and visual tokens."""
    chosen = POLICIES[name]
    tiles = int(chosen.tiles([width], [height])[0])
    return chosen.grid(width, height), tiles, tiles * chosen.tokens


def test_worked_examples_of_the_papers() -> None:
    assert [patch_tokens(size) for size in (224, 336, 448)] == [256, 576, 1024]
    for size in (224, 336, 448):
        assert POLICIES[f"clip-{size}"].tokens == patch_tokens(size)
    # LLaVA-NeXT: 672 x 672 in four tiles and an overview, 2,880 tokens; three in a line for strips.
    assert cost("llava-next", 672, 672) == ((2, 2), 5, 2880)
    assert cost("llava-next", 1344, 336)[0] == (3, 1)
    assert cost("llava-next", 300, 600)[:2] == ((1, 2), 3)
    # InternVL 1.5: 800 x 1300 goes to 2 x 3 tiles; 256 to 3,328 tokens in training.
    assert cost("internvl-1.5", 800, 1300) == ((2, 3), 7, 1792)
    assert cost("internvl-1.5", 1792, 1344) == ((4, 3), 13, 3328)
    assert cost("internvl-1.5", 448, 448) == ((1, 1), 1, 256)
    # MiniCPM-V 2.6: 1344 x 1344 in 640 tokens; a picture of 448 x 448 is not cut.
    assert cost("minicpm-v-2.6", 1344, 1344) == ((3, 3), 10, 640)
    assert cost("minicpm-v-2.5", 1344, 1344) == ((3, 3), 10, 960)
    assert cost("minicpm-v-2.5", 448, 448) == ((1, 1), 1, 96)
    # SPHINX: 448 x 448 as four of 224 and an overview; MM1: 1344 x 1344 as five of 672, 720 tokens.
    assert cost("sphinx", 448, 448) == ((2, 2), 5, 1280)
    assert cost("mm1", 1344, 1344) == ((2, 2), 5, 720)


@settings(deadline=None, max_examples=60)
@given(SIZES)
def test_choices_are_those_of_the_published_code(sizes: list[tuple[int, int]]) -> None:
    llava, intern, mini = (POLICIES[n] for n in ("llava-next", "internvl-1.5", "minicpm-v-2.5"))
    points = [(rows * 336, columns * 336) for columns, rows in llava.grids]
    slicer: Any = MiniCPMV4_6ImageProcessorPil.get_sliced_grid
    for width, height in sizes:
        high, wide = select_best_resolution((height, width), points)
        assert llava.grid(width, height) == (wide // 336, high // 336)
        found = get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
        assert intern.grid(width, height) == found
        rows, columns = slicer(None, (height, width), 9, 448) or (1, 1)
        mine = mini.grid(width, height)
        if mine != (columns, rows):
            # Logarithms rounded the other way where two shapes are equally near.
            near = [abs(np.log(width / height * r / c)) for c, r in (mine, (columns, rows))]
            assert near[0] == pytest.approx(near[1], abs=1e-12)


@given(SIZES, st.sampled_from(sorted(POLICIES)))
def test_many_pictures_are_each_alone(sizes: list[tuple[int, int]], name: str) -> None:
    chosen = POLICIES[name]
    widths, heights = np.array(sizes).T
    for (width, height), tiles in zip(sizes, chosen.tiles(widths, heights), strict=True):
        columns, rows = chosen.grid(width, height)
        assert tiles == (columns * rows + 1 if columns * rows > 1 else 1)
        assert tiles == len(chosen.frames(width, height))


@pytest.mark.parametrize("size", [(240, 160), (90, 200), (64, 64)])
@pytest.mark.parametrize("kind", ["resize", "pad", "slices", "anyres", "adaptive", "fixed"])
def test_stitched_slices_are_the_picture(kind: str, size: tuple[int, int]) -> None:
    width, height = size
    chosen = ImagePolicy.model_validate(
        {
            "kind": kind,
            "size": 64,
            "tokens": 4,
            "max_slices": 6 if kind in ("slices", "adaptive") else 1,
        }
    )
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    original = np.stack([across, down, 255 - across], -1).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(original).save(file, "PNG")
    tiles = decode(file.getvalue(), chosen)
    frames = chosen.frames(width, height)
    assert len(tiles) == len(frames) == int(chosen.tiles([width], [height])[0])
    slices = range(len(tiles) - 1) if len(tiles) > 1 else range(1)
    for group in (slices, range(len(tiles) - 1, len(tiles))):
        # Each pixel's colour tells where it is: look it up in the tile that shows it.
        stitched = np.full(original.shape, -1.0)
        for place in group:
            x0, y0, x1, y1 = frames[place]
            columns = (np.arange(width) + 0.5 - x0) / (x1 - x0) * 64
            rows = (np.arange(height) + 0.5 - y0) / (y1 - y0) * 64
            xs, ys = (np.flatnonzero((axis >= 0) & (axis < 64)) for axis in (columns, rows))
            tile = tiles[place].permute(1, 2, 0).numpy()
            stitched[np.ix_(ys, xs)] = tile[np.ix_(rows[ys].astype(int), columns[xs].astype(int))]
        assert (stitched >= 0).all(), "a part of the picture is in no slice"
        assert np.abs(stitched - original).mean() < 3


def test_letterboxed_slices_are_grey_outside_the_picture() -> None:
    file = io.BytesIO()
    Image.new("RGB", (128, 32), "white").save(file, "PNG")
    tiles = decode(file.getvalue(), ImagePolicy(kind="fixed", size=32, tokens=4))
    assert torch.equal(tiles[0], tiles[1])
    assert sorted(set(tiles[0, 0, :24].flatten().tolist())) == [128]
    assert sorted(set(tiles[0, 0, 24:].flatten().tolist())) == [255]
    assert sorted(set(tiles[4, 0, :, 5].tolist())) == [128, 255], "the overview is letterboxed too"


def test_what_does_not_fit_is_explained() -> None:
    for values, problem in (
        ({"kind": "pad", "shapes": [[2, 2]]}, "for anyres and fixed, not pad"),
        ({"kind": "fixed", "shapes": [[2, 2], [3, 3]]}, "one shape"),
        ({"kind": "anyres", "max_slices": 4}, "for slices and adaptive, not anyres"),
        ({"kind": "anyres", "shapes": [[0, 2]]}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=problem):
            ImagePolicy.model_validate(values)
    for text in ("640", "640x", "0x3", "axb", "1x2x3"):
        with pytest.raises(UserError, match="WIDTHxHEIGHT"):
            parse_size(text)
    with pytest.raises(UserError, match="one of clip-224, "):
        find_policy("llava")
    with pytest.raises(UserError, match="no such file"):
        find_policy("missing.yaml")


def test_the_command_counts_without_torch_and_prefect() -> None:
    code = (
        "import sys\n"
        "from flows.cli import main\n"
        "sys.argv = ['cuvee', 'tokens', '--image', '672x672', '--image', '1344x336',"
        " '--policy', 'llava-next', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'prefect', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    shown, told = (
        subprocess.run(
            [sys.executable, "-c", code, *flags], check=True, capture_output=True, text=True
        ).stdout
        for flags in ([], ["--json"])
    )
    assert "2,880" in shown
    first, second = map(json.loads, told.splitlines())
    assert (first["tiles"], first["tokens"]) == (5, 2880)
    assert (second["columns"], second["rows"], second["tokens"]) == (3, 1, 2304)
    assert second["frames"][-1] == [0, 0, 1344, 336]
