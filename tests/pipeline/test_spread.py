"""Groups: every pack once, even work; the last samples of a run keep budgets, and ranks their pictures."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.groups import folded, grouped, is_even
from pipeline.spread import spread


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.sampled_from([1, 2, 6, 8]), st.integers(0, 99))
def test_every_pack_is_in_one_group_or_left_over(n: int, most: int, each: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    tiles, cost = random.integers(0, most, n), random.integers(100, 9000, n)
    groups, odd = grouped(tiles, cost, each)
    assert sorted([*groups.reshape(-1).tolist(), *odd.tolist()]) == list(range(n))
    assert len(odd) < 2 * each
    shown = tiles[groups] > 0
    assert (shown == shown[:, :1]).all()
    lean = random.integers(-500, 500, (n, 3))
    better = folded(groups, tiles, cost, lean)
    assert sorted(better.reshape(-1).tolist()) == sorted(groups.reshape(-1).tolist())
    even = is_even(tiles[groups], cost[groups]).sum()
    assert is_even(tiles[better], cost[better]).sum() >= even


def test_folding_brings_groups_near_the_shares() -> None:
    random = np.random.default_rng(0)
    lean = random.integers(-1000, 1000, (6400, 1))
    alike = np.ones(6400, np.int64)
    groups, _ = grouped(alike, alike, 8)
    before, after = (
        np.abs(lean[some].sum(axis=1)).mean()
        for some in (groups, folded(groups, alike, alike, lean))
    )
    assert after < before / 4


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 4)), min_size=1, max_size=120),
    st.sampled_from([1, 2, 8]),
)
def test_the_last_samples_keep_their_budgets(samples: list[tuple[int, int]], each: int) -> None:
    text, tiles = np.array(samples).T
    tokens = text + 50 * tiles
    packs, groups = spread(tokens, tiles, 1024, 16, each)
    assert packs.min() >= 0
    assert packs.max() < groups * each
    assert np.bincount(packs, tokens).max() <= 1024
    assert np.bincount(packs, tiles).max() <= 16
    shown = (np.bincount(packs, tiles, groups * each) > 0).reshape(-1, each)
    # A rank lacks pictures only where all pictures are too few.
    assert (shown == shown[:, :1]).all() or (tiles > 0).sum() < each
