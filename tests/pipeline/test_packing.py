"""Packing: every sample once, no budget overrun, few packs more than the least possible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packing import lower_bound, pack
from tests.reference import Mix, heavy_mix, reference_mix

lengths = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 6)), min_size=1, max_size=300)


@settings(deadline=None)
@given(lengths, st.integers(64, 256), st.integers(6, 24))
def test_every_sample_is_packed_once_and_no_budget_overrun(
    samples: list[tuple[int, int]], capacity: int, max_tiles: int
) -> None:
    tokens, tiles = np.array(samples).T
    packs = pack(tokens, tiles, capacity, max_tiles)
    assert len(packs) == len(samples)
    assert sorted(set(packs.tolist())) == list(range(packs.max() + 1)), "no pack is empty"
    assert np.bincount(packs, tokens).max() <= capacity
    assert np.bincount(packs, tiles).max() <= max_tiles
    assert packs.max() + 1 >= lower_bound(tokens, tiles, capacity, max_tiles)
    again = pack(tokens, tiles, capacity, max_tiles)
    assert packs.tolist() == again.tolist()


def test_nothing_is_packed_into_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    assert len(pack(nothing, nothing, 8, 8)) == 0


@pytest.mark.parametrize("count", [500, 5_000, 20_000])
def test_packs_are_nearly_full_on_a_skewed_mix(count: int) -> None:
    tokens = np.random.default_rng(0).lognormal(5.5, 1.0, count).astype(np.int64).clip(8, 4096)
    packs = pack(tokens, np.zeros_like(tokens), 8192, 0)
    least = lower_bound(tokens, np.zeros_like(tokens), 8192, 0)
    assert least / (packs.max() + 1) > 0.985


@pytest.mark.parametrize(
    ("mix", "max_tiles", "wanted"),
    [
        (reference_mix(), 24, 0.965),
        (reference_mix(), 32, 0.99),
        (heavy_mix(), 24, 0.965),
        (heavy_mix(), 32, 0.99),
    ],
)
def test_two_budgets_are_used_nearly_in_full(mix: Mix, max_tiles: int, wanted: float) -> None:
    packs = pack(mix.tokens, mix.tiles, 8192, max_tiles)
    assert np.bincount(packs, mix.tokens).max() <= 8192
    assert np.bincount(packs, mix.tiles).max() <= max_tiles
    assert lower_bound(mix.tokens, mix.tiles, 8192, max_tiles) / (packs.max() + 1) >= wanted
