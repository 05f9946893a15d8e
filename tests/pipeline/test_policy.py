"""The image policy: tiles and grids agree, and keep their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.policy import ImagePolicy

sizes = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=20)


@given(sizes, st.integers(1, 12))
def test_tiles_follow_from_the_grid_and_never_pass_their_limit(
    shapes: list[tuple[int, int]], most: int
) -> None:
    policy = ImagePolicy(kind="slices", size=448, tokens=256, max_slices=most)
    widths, heights = np.array(shapes).T
    for (width, height), tiles in zip(shapes, policy.tiles(widths, heights), strict=True):
        columns, rows = policy.grid(width, height)
        assert columns * rows <= most
        assert tiles == (columns * rows + 1 if columns * rows > 1 else 1)


@given(sizes)
def test_one_tile_policies_give_one_tile(shapes: list[tuple[int, int]]) -> None:
    widths, heights = np.array(shapes).T
    for policy in (ImagePolicy(kind="pad"), ImagePolicy(kind="resize")):
        assert policy.tiles(widths, heights).tolist() == [1] * len(shapes)
        assert policy.grid(*shapes[0]) == (1, 1)


def test_the_nearest_shape_is_chosen() -> None:
    policy = ImagePolicy(kind="slices", size=448, max_slices=6)
    assert policy.grid(1344, 448) == (3, 1)
    assert policy.grid(448, 1344) == (1, 3)
    assert policy.grid(300, 300) == (1, 1), "too few pixels for 2 x 2"
    assert policy.grid(900, 900) == (2, 2)


def test_a_change_gives_another_fingerprint_and_a_typo_a_message() -> None:
    assert ImagePolicy(size=336).fingerprint != ImagePolicy(size=448).fingerprint
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ImagePolicy.model_validate({"slices": 4})
