"""Mixing: every prefix holds the shares, walks are fair, a typo is explained."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from pipeline.mixture import Mixture, draws_for, merge, walk


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_every_prefix_holds_the_shares_to_within_a_draw(counts: list[int]) -> None:
    entry, number = merge([np.ones(count) for count in counts])
    for place, count in enumerate(counts):
        assert number[entry == place].tolist() == list(range(count))
        seen = np.cumsum(entry == place)
        wanted = np.arange(1, len(entry) + 1) * count / len(entry)
        assert np.abs(seen - wanted).max() <= len(counts)


@given(st.integers(1, 50), st.floats(0.1, 3.9), st.integers(0, 5))
def test_a_walk_sees_every_sample_before_it_sees_one_again(
    n: int, epochs: float, seed: int
) -> None:
    draws = int(n * epochs)
    order = walk(seed, "vqav2", n, draws)
    counts = np.bincount(order, minlength=n)
    assert len(order) == draws
    assert counts.max(initial=0) - counts.min() <= 1


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=60), st.floats(0, 1))
def test_the_draws_come_nearest_to_the_target(values: list[float], part: float) -> None:
    units, target = np.array(values), sum(values) * part
    count = draws_for(units, target, len(units))
    reached = np.concatenate([[0.0], np.cumsum(units)])
    assert abs(reached[count] - target) <= np.abs(reached - target).min() + 1e-6


@given(st.lists(st.lists(st.floats(0.1, 50), min_size=1, max_size=80), min_size=1, max_size=4))
def test_every_prefix_holds_the_shares_in_the_unit(values: list[list[float]]) -> None:
    units = [np.array(entry) for entry in values]
    entry, number = merge(units)
    drawn = np.array([units[place][k] for place, k in zip(entry, number, strict=True)])
    totals = np.array([entry_units.sum() for entry_units in units])
    for place, total in enumerate(totals):
        seen = np.cumsum(np.where(entry == place, drawn, 0))
        wanted = np.cumsum(drawn) * total / totals.sum()
        assert np.abs(seen - wanted).max() <= 50 * len(units)


@given(st.integers(1, 40), st.integers(0, 3))
def test_a_walk_hangs_on_seed_and_name_alone(n: int, seed: int) -> None:
    order = walk(seed, "vqav2", n, 2 * n)
    assert order.tolist() == walk(seed, "vqav2", n, 2 * n).tolist()
    assert order[:n].tolist() == walk(seed, "vqav2", n, n).tolist(), "a longer run begins the same"
    if n > 20:
        assert order.tolist() != walk(seed, "docvqa", n, 2 * n).tolist()
        assert order[:n].tolist() != order[n:].tolist(), "another epoch, another order"


def test_a_typo_in_a_recipe_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("name: x\nunit: words\nbudget: {epochs: 1}\nsources: []\n")
    with pytest.raises(
        UserError, match=r"recipe\.yaml, line 2, field unit: Input should be 'samples'"
    ):
        Mixture.load(file)
