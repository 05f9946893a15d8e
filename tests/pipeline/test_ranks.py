"""Ranks: every pack of a step to one rank, in the same order for any number of them, evenly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from pipeline.ranks import deal, packs_of_rank


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(1, 16))
def test_the_ranks_runs_are_the_step(share: int, ranks: int) -> None:
    runs = [packs_of_rank(share * ranks, rank, ranks) for rank in range(ranks)]
    assert [place for run in runs for place in run] == list(range(share * ranks))


def test_ranks_that_do_not_divide_a_step_are_explained() -> None:
    with pytest.raises(UserError, match="8 packs a step do not divide among 3 ranks"):
        packs_of_rank(8, 0, 3)
    with pytest.raises(UserError, match="ranks count from 0"):
        packs_of_rank(8, 4, 4)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
def test_dealing_permutes_each_step_one_of_each_group_to_a_rank(
    steps: int, share: int, ranks: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vision, language, lean = random.integers(0, 30, (3, steps, share * ranks))
    order = deal(vision, language, lean, ranks)
    assert np.sort(order, axis=1).tolist() == [list(range(share * ranks))] * steps
    groups = np.sort((order // ranks).reshape(steps, ranks, share), axis=2)
    assert (groups == np.arange(share)).all()


def test_dealing_evens_out_what_groups_differ_in() -> None:
    random = np.random.default_rng(0)
    vision = np.sort(random.integers(10, 30, (50, 64)), axis=1)
    dealt = np.take_along_axis(vision, deal(vision, vision, vision, 8), axis=1)
    work = dealt.reshape(50, 8, 8).sum(axis=2)
    assert (work.max(axis=1) / work.mean(axis=1)).max() < 1.03
    assert (vision.reshape(50, 8, 8).sum(axis=2).max(axis=1) / work.mean(axis=1)).min() > 1.2


def test_packs_and_runs_that_lean_to_either_side_alternate() -> None:
    random = np.random.default_rng(0)
    lean = random.integers(-500, 500, (200, 64))
    alike = np.ones_like(lean)
    runs = np.take_along_axis(lean, deal(alike, alike, lean, 8), axis=1).reshape(200, 8, 8)
    for values in (runs, runs.sum(axis=2)):
        ups = np.diff(values, axis=-1) >= 0
        assert (ups[..., ::2]).all()
        assert (np.diff(values, axis=-1)[..., 1::2] <= 0).all()
