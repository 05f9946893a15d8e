"""Draws: every prefix holds the shares, caps hold, walks hang on names alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog.errors import UserError
from pipeline.draws import BLOCKS_TOGETHER, draw, merge, middles, walk
from pipeline.mixture import UNITS, Unit
from pipeline.pool import Pool
from tests.pipeline.conftest import Recipe


def keys(count: int, first: int = 0) -> NDArray[np.uint64]:
    return np.arange(first, first + count, dtype=np.uint64)


def pool(count: int, seed: int, *, pictures: bool = True) -> Pool:
    """A pool of samples of very different sizes."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 3, count, dtype=np.int32) * pictures
    text = random.lognormal(4, 1, count).astype(np.int32) + 2
    tiles = images * random.integers(1, 8, count, dtype=np.int32)
    return Pool(
        part=np.zeros(count, np.uint32),
        row=np.arange(count, dtype=np.uint32),
        key=keys(count, seed * 1_000_000),
        text=text,
        loss=np.maximum(text // 3, 1).astype(np.int32),
        images=images,
        tiles=tiles,
        members=np.ones(count, np.int32),
        visual=tiles * 64,
        left_out={"unlearnt": 0, "overlong": 0},
        truncated=0,
    )


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 5))
def test_a_walk_sees_every_sample_once_an_epoch(n: int, epochs: int, seed: int) -> None:
    order = walk(seed, "vqav2", keys(n), epochs)
    for epoch in order.reshape(epochs, n):
        assert sorted(epoch.tolist()) == list(range(n))
    assert order[:n].tolist() == walk(seed, "vqav2", keys(n), 1).tolist()
    if n > 20:
        assert order.tolist() != walk(seed, "docvqa", keys(n), epochs).tolist()
        assert epochs == 1 or order[:n].tolist() != order[n : 2 * n].tolist()


@settings(deadline=None)
@given(st.integers(2, 60), st.data())
def test_leaving_samples_out_reorders_no_other(n: int, data: st.DataObject) -> None:
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))
    whole = [int(k) for k in walk(1, "vqav2", keys(n), 1) if k in set(kept.tolist())]
    assert kept[walk(1, "vqav2", keys(n)[kept], 1)].tolist() == whole


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 3))
def test_a_block_walk_stays_within_few_blocks(n: int, size: int, epochs: int) -> None:
    blocks = keys(n) // np.uint64(size) * np.uint64(size)
    order = walk(3, "vqav2", keys(n), epochs, None, blocks).reshape(epochs, n)
    for epoch in order:
        assert sorted(epoch.tolist()) == list(range(n))
        # Runs of as many samples as are shuffled together touch the blocks of two such runs.
        together = BLOCKS_TOGETHER * size
        for start in range(0, n, together):
            touched = set((epoch[start : start + together] // size).tolist())
            assert len(touched) <= 2 * BLOCKS_TOGETHER
    if n > 20 * size and size > 1:
        assert np.abs(np.diff(order[0].astype(int))).max() > BLOCKS_TOGETHER * size


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(UNITS), st.integers(0, 9))
def test_shuffled_by_blocks_shares_and_caps_hold_too(recipe: Recipe, unit: Unit, seed: int) -> None:
    pools = [pool(30_000, 1), pool(9_000, 2)]
    mixture = recipe(unit=unit, sources=ENTRIES, shuffle="block", seed=seed, budget={"epochs": 2})
    draws, shares = draw(mixture, pools)
    drawn = sizes(pools, draws.entry, draws.sample, unit)
    assert drawn[draws.entry == 0].sum() / drawn.sum() == pytest.approx(shares[0], abs=0.001)
    for place, held in enumerate(pools):
        times = np.bincount(draws.sample[draws.entry == place], minlength=len(held))
        assert times.max() - times.min() <= 1
    mine = draws.sample[draws.entry == 0][:10_000]
    assert len(np.unique(mine // 5_000)) <= 2 * BLOCKS_TOGETHER


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_every_prefix_holds_the_shares_to_within_a_draw(counts: list[int]) -> None:
    entry = merge([middles(np.ones(count, np.int64)) / count for count in counts])
    for place, count in enumerate(counts):
        seen = np.cumsum(entry == place)
        wanted = np.arange(1, len(entry) + 1) * count / len(entry)
        assert np.abs(seen - wanted).max() <= len(counts)


def sizes(pools: list[Pool], entry: Any, sample: Any, unit: Unit) -> NDArray[np.int64]:
    drawn = np.empty(len(entry), np.int64)
    for place, held in enumerate(pools):
        drawn[entry == place] = held.unit(unit)[sample[entry == place]]
    return drawn


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(UNITS),
    st.lists(st.floats(0.2, 5), min_size=2, max_size=2),
    st.sampled_from([1.0, 0.4, 2.5]),
)
def test_shares_hold_in_the_unit_over_the_run_and_any_window(
    recipe: Recipe, unit: Unit, weights: list[float], epochs: float
) -> None:
    pools = [pool(30_000, 1), pool(9_000, 2)]
    mixture = recipe(
        unit=unit,
        budget={"epochs": epochs},
        sources=[
            {"source": name, "weight": weight}
            for name, weight in zip(("a", "b"), weights, strict=True)
        ],
    )
    draws, shares = draw(mixture, pools)
    drawn = sizes(pools, draws.entry, draws.sample, unit)
    mine = np.concatenate([[0], np.cumsum(np.where(draws.entry == 0, drawn, 0))])
    both = np.concatenate([[0], np.cumsum(drawn)])
    assert mine[-1] / both[-1] == pytest.approx(shares[0], abs=0.001)
    window = min(10_000, len(drawn))
    ends = np.arange(window, len(both))
    over = (mine[ends] - mine[ends - window]) / (both[ends] - both[ends - window])
    assert np.abs(over - shares[0]).max() <= 0.005
    for place, held in enumerate(pools):
        times = np.bincount(draws.sample[draws.entry == place], minlength=len(held))
        assert times.max() - times.min() <= 1, "no sample again before all were seen"
        assert times.sum() <= epochs * len(held)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 1500), st.sampled_from(UNITS))
def test_a_budget_in_samples_is_met_exactly(recipe: Recipe, amount: int, unit: Unit) -> None:
    pools = [pool(1_000, 1), pool(800, 2)]
    draws, _ = draw(recipe(unit=unit, budget={"samples": amount}, sources=ENTRIES), pools)
    assert len(draws.entry) == amount


@settings(deadline=None, max_examples=30)
@given(st.integers(2_000, 250_000))
def test_a_budget_in_tokens_is_not_passed_and_nearly_spent(recipe: Recipe, amount: int) -> None:
    pools = [pool(1_000, 1), pool(800, 2)]
    draws, _ = draw(recipe(budget={"tokens": amount}, sources=ENTRIES), pools)
    spent = sizes(pools, draws.entry, draws.sample, "all_tokens").sum()
    longest = max(int(held.tokens.max()) for held in pools)
    assert amount - longest <= spent <= amount


ENTRIES = [
    {"source": "a", "weight": 2, "max_epochs": 3},
    {"source": "b", "weight": 1, "max_epochs": 3},
]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.floats(0.1, 3))
def test_caps_are_never_passed(recipe: Recipe, weight: int, most: float) -> None:
    entries = [
        {"source": "a", "weight": weight, "max_epochs": most},
        {"source": "b", "weight": 1, "max_epochs": 1},
    ]
    pools = [pool(300, 1), pool(200, 2)]
    draws, _ = draw(recipe(sources=entries, budget={"epochs": 9}), pools)
    counts = np.bincount(draws.entry, minlength=2)
    assert counts[0] <= most * 300 + 1e-9
    assert counts[1] <= 200
    assert counts[0] >= most * 300 - 1 or counts[1] == 200, "the run ends at the first cap"


def test_another_entry_reorders_no_walk(recipe: Recipe) -> None:
    pools = [pool(300, 1), pool(200, 2), pool(250, 3)]
    sources = [{"source": name, "weight": 1} for name in ("a", "b", "c")]
    few, _ = draw(recipe(sources=sources[:2], budget={"samples": 200}), pools[:2])
    many, _ = draw(recipe(sources=sources, budget={"samples": 300}), pools)
    for place in (0, 1):
        one, other = (d.sample[d.entry == place] for d in (few, many))
        shared = min(len(one), len(other))
        assert shared > 50
        assert one[:shared].tolist() == other[:shared].tolist()


def test_too_large_a_budget_says_what_there_is(recipe: Recipe) -> None:
    sources = [{"source": "a", "weight": 1}, {"source": "b", "weight": 1}]
    mixture = recipe(unit="samples", sources=sources, budget={"samples": 600})
    with pytest.raises(
        UserError,
        match=r"600 samples, and the sources suffice for 400\nb: 1.50 epochs wanted, max_epochs is 1\n"
        r"Fix: take 66.7% of the budget",
    ):
        draw(mixture, [pool(300, 1), pool(200, 2)])


def test_a_unit_that_an_entry_lacks_is_explained(recipe: Recipe) -> None:
    sources = [{"source": "a", "weight": 1}, {"source": "b", "weight": 1}]
    with pytest.raises(UserError, match="b holds no images"):
        draw(recipe(unit="images", sources=sources), [pool(9, 1), pool(9, 2, pictures=False)])
