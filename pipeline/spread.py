"""The last samples of a run -> groups of packs of even work, one pack for each rank.

Alike samples, one for each rank, make a hand; hands are packed as if they were samples, and each pack of a
group gets one of every hand. Packed one by one, the last samples would make packs that are like no others.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.groups import ascending
from pipeline.packing import pack

Integers = NDArray[np.int64]


def spread(
    tokens: Integers, tiles: Integers, capacity: int, max_tiles: int, each: int
) -> tuple[Integers, int]:
    """Return the pack of each sample, and how many groups there are: the first has packs 0 to `each` - 1.

    Some packs may be empty. All packs of a group have pictures, or none; but for one group where pictures
    are too few, or too large.

    >>> spread(np.array([6, 5, 4, 4]), np.array([2, 2, 0, 0]), 10, 2, 2)
    (array([0, 1, 1, 0]), 1)
    """
    hands = _hands(tokens, tiles, each)
    # A place without a sample needs nothing.
    needs = np.stack([np.append(tokens, 0)[hands], np.append(tiles, 0)[hands]])
    most = needs.max(axis=2)
    shown = np.flatnonzero(most[1] > 0)
    alone = np.ones(len(hands), np.bool_)
    if len(shown) > 1 and hands[shown[-1], -1] < 0:
        # Too few pictures for all ranks go with others.
        few = shown[-1]
        host = shown[np.lexsort((most[0, shown[:-1]], most[1, shown[:-1]]))[0]]
        both = most[:, host] + most[:, few]
        if (both <= (capacity, max_tiles)).all():
            most[:, host] = both
            alone[few] = False
    group = np.zeros(len(hands), np.int64)
    group[alone] = pack(most[0, alone], most[1, alone], capacity, max_tiles)
    if not alone.all():
        group[few] = group[host]
    return _dealt(hands, needs, group, len(tokens)), int(group.max()) + 1


def _hands(tokens: Integers, tiles: Integers, each: int) -> Integers:
    """Return alike samples in rows of `each`, most tiles first; -1 where there are no more."""
    work = (tiles << int(tokens.max()).bit_length()) + tokens
    order = ascending(-work)
    starts = np.flatnonzero(np.diff(tiles[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    whole = place < np.repeat(sizes // each * each, sizes)
    odd, rows = order[~whole], [order[whole].reshape(-1, each)]
    for some in (odd[tiles[odd] > 0], odd[tiles[odd] == 0]):
        missing = np.full(-len(some) % each, -1)
        rows.append(np.concatenate([some, missing]).reshape(-1, each))
    return np.concatenate(rows)


def _dealt(hands: Integers, needs: Integers, group: Integers, samples: int) -> Integers:
    """Return the pack of each sample: of every hand, the heaviest to the pack with least work."""
    each = hands.shape[1]
    load = np.zeros((2, int(group.max()) + 1, each), np.int64)
    chosen = np.empty(samples + 1, np.int64)
    heavy = np.lexsort((-needs[0].sum(axis=1), -needs[1].sum(axis=1)))
    order = heavy[np.argsort(group[heavy], kind="stable")]
    first = np.searchsorted(group[order], group[order])
    turn = np.arange(len(order)) - first
    for number in range(int(turn.max()) + 1):
        some = order[turn == number]
        to = group[some][:, None]
        heaviest = np.lexsort((-needs[0, some], -needs[1, some]), axis=1)
        poorest = np.lexsort((load[0, group[some]], load[1, group[some]]), axis=1)
        row = some[:, None]
        chosen[hands[row, heaviest]] = to * each + poorest
        for budget in (0, 1):
            load[budget, to, poorest] += needs[budget, row, heaviest]
    return chosen[:-1]
