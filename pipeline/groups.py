"""Packs -> groups of alike packs, one for each rank: even work within, and together near the shares.

Packs of equal tiles and about equal cost can stand for each other. Of such a band, those that lean to
one source are put together with those that lean away from it, again and again, until groups are full:
a group then holds the shares far better than its packs do.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

VISION = (103, 100)
"""The most tiles of a pack of a group over the mean, at most."""
LANGUAGE = (110, 100)
"""The same of the language model's work."""
BAND = 32
"""Groups whose packs may be exchanged for each other."""
BANDED = (105, 100)
"""The most cost of a pack of a band over the least, at most."""
VALUE_BITS = 24
"""Deviations are compared to so many bits."""


def grouped(tiles: Integers, cost: Integers, each: int) -> tuple[Integers, Integers]:
    """Return groups of `each` packs, of shape (groups, each), and the packs that are in none.

    Packs of equal tiles make groups, in the order of their cost; those left over, the packs of uneven
    groups too, make groups with their neighbours. Either all packs of a group have pictures, or none.

    >>> grouped(np.array([4, 9, 4, 9, 4]), np.array([10, 20, 10, 20, 11]), 2)
    (array([[4, 0],
           [1, 3]]), array([2]))
    """
    work = (tiles << int(cost.max(initial=0)).bit_length()) - cost
    alike = ascending(work)
    found, left = _runs(alike, tiles[alike], each)
    even = is_even(tiles[found], cost[found])
    left = np.concatenate([left, found[~even].reshape(-1)])
    left = left[ascending(work[left])]
    near, odd = _runs(left, np.minimum(tiles[left], 1), each)
    return np.concatenate([found[even], near]), odd


def _runs(packs: Integers, kinds: Integers, each: int) -> tuple[Integers, Integers]:
    """Return groups of packs of one kind, in their order, and the packs left over."""
    starts = np.flatnonzero(np.diff(kinds, prepend=-1))
    sizes = np.diff(np.append(starts, len(kinds)))
    place = np.arange(len(kinds)) - np.repeat(starts, sizes)
    whole = place < np.repeat(sizes // each * each, sizes)
    return packs[whole].reshape(-1, each), packs[~whole]


def is_even(tiles: Integers, cost: Integers) -> NDArray[np.bool_]:
    """Return which groups have even work; `tiles` and `cost` are of shape (groups, packs)."""
    even = np.ones(len(tiles), np.bool_)
    for work, (most, mean) in ((tiles, VISION), (cost, LANGUAGE)):
        even &= work.max(axis=1, initial=0) * work.shape[1] * mean <= work.sum(axis=1) * most
    return even


def folded(groups: Integers, tiles: Integers, cost: Integers, deviations: Integers) -> Integers:
    """Return groups of the same packs that are nearer to the shares.

    `deviations`, of shape (packs, entries), are how far packs are from the shares.
    """
    count, each = groups.shape
    if not count:
        return groups
    band = _bands(tiles[groups[:, 0]], cost[groups])
    band = np.repeat(band, each)
    members = groups.reshape(-1, 1)
    sums = deviations[members[:, 0]]
    for factor in _factors(each):
        first = np.flatnonzero(np.diff(band, prepend=-1))
        sizes = np.diff(np.append(first, len(band)))
        order = _within(band, sums[:, most_spread(sums)])
        # Of n in a band, number i stands with n/f + (n/f - 1 - i), 2n/f + i and so on.
        parts = sizes // factor
        column = np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
        start, wide = np.repeat(first, parts), np.repeat(parts, parts)
        chosen = np.stack(
            [
                start + row * wide + (wide - 1 - column if row % 2 else column)
                for row in range(factor)
            ],
            axis=1,
        )
        chosen = order[chosen]
        members = members[chosen].reshape(len(chosen), -1)
        sums, band = sums[chosen].sum(axis=1), band[chosen[:, 0]]
    return members


def most_spread(deviations: Integers) -> int:
    """Return the entry from whose share packs are furthest, in squares: exact, as sums of integers are."""
    scaled = deviations >> max(int(np.abs(deviations).max(initial=0)).bit_length() - 20, 0)
    return int(np.einsum("ij,ij->j", scaled, scaled).argmax())


def _bands(tiles: Integers, cost: Integers) -> Integers:
    """Return the band of each group; `tiles`, of a group's first pack, and `cost` ascend or descend."""
    starts = np.flatnonzero(np.diff(tiles, prepend=-1) != 0)
    place = np.arange(len(tiles)) - np.repeat(starts, np.diff(np.append(starts, len(tiles))))
    fresh = place % BAND == 0
    first = np.flatnonzero(fresh)
    sizes = np.diff(np.append(first, len(tiles)))
    least, most = (
        f.reduceat(c, first)
        for f, c in ((np.minimum, cost.min(axis=1)), (np.maximum, cost.max(axis=1)))
    )
    alike = most * BANDED[1] <= least * BANDED[0]
    fresh |= ~np.repeat(alike, sizes)
    return np.cumsum(fresh) - 1


def _within(band: Integers, values: Integers) -> Integers:
    """Return the stable order by band, and by value within; bands ascend."""
    bits = max(int(np.abs(values).max(initial=0)).bit_length() - VALUE_BITS, 0)
    low = (values >> bits) + (1 << VALUE_BITS)
    return ascending((band << (VALUE_BITS + 1)) + low)


def _factors(number: int) -> list[int]:
    """Return the prime factors.

    >>> _factors(24)
    [2, 2, 2, 3]
    """
    found, factor = [], 2
    while number > 1:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return found


def ascending(values: Integers) -> Integers:
    """Return the stable order of integers, the same on every processor.

    >>> ascending(np.array([70_000, -1, 5, -1]))
    array([1, 3, 2, 0])
    """
    if not len(values):
        return np.zeros(0, np.int64)
    least = values.min()
    # Short integers are sorted by radix: sixteen bits after the other, the lowest first.
    low = values - least
    order: Integers = np.argsort(low.astype(np.uint16), kind="stable")
    for shift in range(16, int(values.max() - least).bit_length(), 16):
        order = order.take(np.argsort((low >> shift).astype(np.uint16).take(order), kind="stable"))
    return order
