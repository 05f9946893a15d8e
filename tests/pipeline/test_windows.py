"""The order of a plan: shares in every stretch, equal work for the ranks, and otherwise random."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.draws import draw
from pipeline.mixture import UNITS, Mixture, Unit
from pipeline.packing import language_cost
from pipeline.windows import Facts, Packs, steps
from tests.pipeline.conftest import Recipe
from tests.pipeline.test_draws import pool, sizes
from tests.reference import reference_mix

RANKS = 8


def run(mixture: Mixture, shares: Any, facts: Facts) -> Packs:
    """Return all packs of a run over draws of these facts."""

    def some(draws: NDArray[np.int64]) -> Facts:
        names = ("tokens", "loss", "tiles", "entry", "unit", "member")
        return Facts(**{name: getattr(facts, name)[draws] for name in names})

    return Packs.joined(list(steps(mixture, shares, len(facts.tokens), some)))


def reference_run(recipe: Recipe, packing: Mapping[str, Any], count: int = 60_000) -> Packs:
    """Return the packs of the reference mix, drawn in random order, weighed in all tokens."""
    mix = reference_mix(count)
    mixture = recipe(
        sources=[{"source": name} for name in "abcdef"],
        packing={"tokens": 8192, "tiles": 32} | dict(packing),
    )
    shares = np.bincount(mix.kinds, mix.tokens) / mix.tokens.sum()
    facts = Facts(
        tokens=mix.tokens,
        loss=mix.tokens,
        tiles=mix.tiles,
        entry=mix.kinds,
        unit=mix.tokens,
        member=np.arange(len(mix.tokens)),
    )
    return run(mixture, shares, facts)


@settings(deadline=None, max_examples=24)
@given(
    st.sampled_from(UNITS),
    st.lists(st.floats(0.3, 3), min_size=2, max_size=2),
    st.sampled_from([8, 16, 64]),
)
def test_shares_hold_in_the_order_of_the_plan(
    recipe: Recipe, unit: Unit, weights: list[float], each: int
) -> None:
    pools = [pool(30_000, 1), pool(16_000, 2)]
    mixture = recipe(
        unit=unit,
        sources=[
            {"source": name, "weight": weight}
            for name, weight in zip(("a", "b"), weights, strict=True)
        ],
        packing={"tokens": 8192, "tiles": 100, "packs_per_step": each},
    )
    draws, shares = draw(mixture, pools)
    tokens, tiles, units = (
        sizes(pools, draws.entry, draws.sample, name)
        for name in ("all_tokens", "visual_tokens", unit)
    )
    facts = Facts(
        tokens=tokens,
        loss=tokens,
        tiles=tiles // 64,
        entry=draws.entry.astype("i8"),
        unit=units,
        member=np.arange(len(units)),
    )
    packs = run(mixture, shares, facts)
    order = packs.draws
    assert sorted(order.tolist()) == list(range(len(draws.entry))), "every draw once"
    entry, units = draws.entry[order], units[order]
    mine = np.concatenate([[0], np.cumsum(np.where(entry == 0, units, 0))])
    both = np.concatenate([[0], np.cumsum(units)])
    assert mine[-1] / both[-1] == pytest.approx(shares[0], abs=0.001)
    window = min(10_000, len(order))
    ends = np.arange(window, len(both))
    over = (mine[ends] - mine[ends - window]) / (both[ends] - both[ends - window])
    # Most mixes stay within half a point; see `pipeline.order`.
    assert np.abs(over - shares[0]).max() <= 0.0075


def test_packs_keep_their_budgets_and_say_what_they_hold(recipe: Recipe) -> None:
    mix = reference_mix()
    packs = reference_run(recipe, {"packs_per_step": 16})
    assert len(packs) % 16 == 0
    assert packs.members.tolist() == packs.draws.tolist()
    assert packs.sizes.sum() == len(np.unique(packs.draws)) == len(mix.tokens)
    pack_of = np.repeat(np.arange(len(packs)), packs.sizes)
    for column, values in ((0, mix.tokens), (2, mix.tiles)):
        held = np.bincount(pack_of, values[packs.draws], len(packs))
        assert held.tolist() == packs.numbers[:, column].tolist()
    assert packs.numbers[:, 0].max() <= 8192
    assert packs.numbers[:, 2].max() <= 32
    costs = language_cost(mix.tokens)[packs.draws]
    assert np.bincount(pack_of, costs, len(packs)).tolist() == packs.numbers[:, 3].tolist()
    for start in (0, 500, 1500):
        members = packs.draws[pack_of == start]
        assert (np.diff(members) > 0).all(), "within a pack, draws keep their order"


def unevenness(packs: Packs, column: int, each: int, ranks: int) -> NDArray[np.float64]:
    """Return the most work of a rank over the mean work, for each step."""
    work = packs.numbers[:, column].reshape(-1, ranks, each // ranks).sum(axis=2)
    means = work.mean(axis=1)
    return np.where(means > 0, work.max(axis=1) / np.maximum(means, 1e-9), 1.0)


@pytest.mark.parametrize("each", [8, 16, 64])
@pytest.mark.parametrize("tiles", [24, 32])
def test_the_ranks_of_a_step_have_equal_work(recipe: Recipe, each: int, tiles: int) -> None:
    packs = reference_run(recipe, {"packs_per_step": each, "tiles": tiles})
    for ranks in (8, 4, 2):
        vision, language = (unevenness(packs, column, each, ranks) for column in (2, 3))
        assert vision.mean() <= 1.03
        assert language.mean() <= 1.10
        assert (vision > 1.03).mean() <= 0.015, "few steps, of packs that are like no others"
        assert (language > 1.10).mean() <= 0.015


def test_without_groups_the_ranks_would_wait_for_each_other(recipe: Recipe) -> None:
    packs = reference_run(recipe, {"packs_per_step": 8, "balanced_ranks": 1}, 20_000)
    assert unevenness(packs, 2, 8, 8).mean() > 1.1


def test_the_order_is_random_beyond_512_packs(recipe: Recipe) -> None:
    mix = reference_mix(200_000)
    runs_of = [
        reference_run(lambda seed=seed, **more: recipe(seed=seed, **more), {}, 200_000)
        for seed in (0, 1, 2)
    ]
    every = [packs.numbers[:, 2].astype(np.float64) for packs in runs_of]
    for lag in (513, 600, 777, 1024, 2048, 4096, 8192):
        found = np.mean([np.corrcoef(each[:-lag], each[lag:])[0, 1] for each in every])
        # Packs of a step are alike: there are as many independent places as steps.
        assert abs(found) < 4 / np.sqrt(sum(len(each) - lag for each in every) / 8)
    packs, lengths = runs_of[0], every[0]
    count = len(lengths)
    assert count > 20_000
    # Runs above and below the median of steps a window apart are as many as in a random sequence.
    steps_apart = lengths.reshape(-1, 8).mean(axis=1)[::65]
    above = steps_apart > np.median(steps_apart)
    high = int(above.sum())
    low = len(above) - high
    runs = 1 + int((above[1:] != above[:-1]).sum())
    expected = 1 + 2 * high * low / len(above)
    spread = np.sqrt((expected - 1) * (expected - 2) / (len(above) - 1))
    assert abs(runs - expected) < 4 * spread
    # Long and short samples, with and without pictures, stand everywhere alike.
    place, step = np.empty(len(packs.draws)), np.empty(len(packs.draws), np.int64)
    place[packs.draws] = np.arange(len(packs.draws)) / len(packs.draws)
    step[packs.draws] = np.repeat(np.arange(count) // 8, packs.sizes)
    for chosen in (
        mix.tiles == 0,
        mix.tiles >= 13,
        mix.tokens > np.quantile(mix.tokens, 0.9),
        mix.tokens < np.quantile(mix.tokens, 0.1),
    ):
        places, in_step = np.sort(place[chosen]), np.bincount(step[chosen])
        # Those of a step stand together: they are one observation, or as many as steps are unequal.
        independent = in_step.sum() ** 2 / (in_step**2).sum()
        apart = np.abs(places - np.arange(len(places)) / len(places)).max()
        assert apart < 1.36 / np.sqrt(independent), "Kolmogorov and Smirnov's, at 5 %"
    # Where a sample was drawn says its window, and nothing of its place in it.
    window = slice(65_536, 131_072)
    drawn = np.arange(65_536, 131_072)
    assert abs(np.corrcoef(place[window], drawn)[0, 1]) < 0.05


def test_another_seed_is_another_order(recipe: Recipe) -> None:
    packs = [
        reference_run(lambda seed=seed, **more: recipe(seed=seed, **more), {}, 5_000)
        for seed in (1, 1, 2)
    ]
    assert packs[0].draws.tolist() == packs[1].draws.tolist()
    assert packs[0].draws.tolist() != packs[2].draws.tolist()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([8, 16, 24]), st.integers(0, 99))
def test_no_rank_lacks_pictures_that_others_have(
    recipe: Recipe, count: int, shown: float, each: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    tiles = random.integers(1, 5, count) * (random.random(count) < shown)
    tokens = tiles * 64 + random.integers(1, 300, count)
    mixture = recipe(
        packing={
            "tokens": 1024,
            "tiles": 8,
            "packs_per_step": each,
            "window": 128,
        }
    )
    facts = Facts(
        tokens=tokens,
        loss=tokens,
        tiles=tiles,
        entry=random.integers(0, 2, count),
        unit=tokens,
        member=np.arange(count),
    )
    packs = run(mixture, [0.5, 0.5], facts)
    assert sorted(packs.draws.tolist()) == list(range(count))
    assert packs.numbers[:, 0].max() <= 1024
    shown_packs = (packs.numbers[:, 2] > 0).reshape(-1, RANKS, each // RANKS).sum(axis=2)
    # One for each rank is impossible only where the run has fewer samples with pictures.
    wanted = RANKS * int(shown_packs.max(axis=1).sum())
    assert (shown_packs == shown_packs[:, :1]).all() or (tiles > 0).sum() < wanted
