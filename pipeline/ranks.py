"""Which rank gets which pack of a step: a pure function of (plan, step, ranks).

A rank has one run of the step's packs, so the ranks' rows in rank order are the step's, whatever the
number of ranks. The plan therefore orders the packs of a step so that every run has the same work: the
runs of half as many ranks are two neighbouring runs each, and even if these are.
"""

import numpy as np
from numpy.typing import NDArray

from catalog.errors import UserError

Integers = NDArray[np.int64]


def packs_of_rank(packs_per_step: int, rank: int, ranks: int) -> range:
    """Return the places in a step of a rank's packs.

    >>> packs_of_rank(8, rank=1, ranks=4)
    range(2, 4)

    Raises:
        UserError: the packs do not divide among the ranks, or there is no such rank.
    """
    if ranks < 1 or packs_per_step % ranks:
        raise UserError(
            f"{packs_per_step} packs a step do not divide among {ranks} ranks",
            fix="choose ranks that divide packs_per_step, or plan with another packs_per_step",
        )
    if not 0 <= rank < ranks:
        raise UserError(f"rank {rank} of {ranks}", fix="ranks count from 0")
    share = packs_per_step // ranks
    return range(rank * share, (rank + 1) * share)


def deal(vision: Integers, language: Integers, lean: Integers, ranks: int) -> Integers:
    """Return the order of the packs of each step in which the ranks' runs have about equal work.

    `vision` and `language`, of shape (steps, packs), are the work of each pack; a step's packs come in
    groups of `ranks` alike ones. Every rank gets one of each group: the rank that has least so far the
    pack that has most, looking at vision first, and at language where vision is equal. Packs that `lean`
    to one side and to the other then alternate in every run, and so do the runs.

    >>> deal(np.array([[5, 4, 2, 1]]), np.array([[9, 9, 9, 9]]), np.array([[1, 2, 0, 4]]), 2)
    array([[2, 1, 0, 3]])
    """
    steps, packs = vision.shape
    share = packs // ranks
    if share == 1:
        # A group's packs already alternate.
        return np.tile(np.arange(packs), (steps, 1))
    rows = np.arange(steps)[:, None]
    work = _combined(vision, language)
    chosen = np.empty((steps, ranks, share), np.int64)
    load = np.zeros((2, steps, ranks), np.int64)
    # Groups with much to see differ most in it: they come first, the others even them out.
    spans = work.reshape(steps, share, ranks).max(axis=2)
    turns = np.argsort(-spans, axis=1, kind="stable")
    for turn in range(share):
        group = turns[:, turn, None] * ranks + np.arange(ranks)
        heaviest = np.take_along_axis(
            group, np.argsort(-work[rows, group], axis=1, kind="stable"), axis=1
        )
        poorest = np.argsort(_combined(load[0], load[1]), axis=1, kind="stable")
        chosen[rows, poorest, turn] = heaviest
        load[0, rows, poorest] += vision[rows, heaviest]
        load[1, rows, poorest] += language[rows, heaviest]
    leans = lean[rows[:, :, None], chosen]
    chosen = np.take_along_axis(chosen, _alternating(leans), axis=2)
    chosen = np.take_along_axis(chosen, _alternating(leans.sum(axis=2))[:, :, None], axis=1)
    return chosen.reshape(steps, packs)


def _alternating(values: Integers) -> Integers:
    """Return the order of the last axis that has the least first, then the most, the next least.

    >>> _alternating(np.array([5, 1, 9, 7]))
    array([1, 2, 0, 3])
    """
    count = values.shape[-1]
    turns = np.empty(count, np.int64)
    turns[::2] = np.arange((count + 1) // 2)
    turns[1::2] = count - 1 - np.arange(count // 2)
    order: Integers = np.argsort(values, axis=-1, kind="stable")[..., turns]
    return order


def _combined(vision: Integers, language: Integers) -> Integers:
    """Return one number that orders by vision first and by language second."""
    return vision * (int(language.max(initial=0)) + 1) + language
