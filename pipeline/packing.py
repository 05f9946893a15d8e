"""Pack draws into rows under two budgets: tokens and picture tiles."""

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

TRIES = 64
"""Bins looked at, from the fullest that has the tokens, for one that has the tiles too."""


def pack(
    tokens: NDArray[np.int64], tiles: NDArray[np.int64], capacity: int, max_tiles: int
) -> list[list[int]]:
    """Group samples into packs of at most `capacity` tokens and `max_tiles` tiles.

    Best fit decreasing: the samples that take the largest part of a budget come first, each into
    the fullest pack that still holds it.

    >>> pack(np.array([6, 5, 4, 3]), np.array([1, 0, 1, 0]), 10, 2)
    [[0, 2], [1, 3]]
    """
    load = np.maximum(tokens / capacity, tiles / max(max_tiles, 1))
    packs: list[list[int]] = []
    room: list[tuple[int, int, int]] = []
    for sample in np.argsort(-load, kind="stable").tolist():
        length, need = int(tokens[sample]), int(tiles[sample])
        start = bisect_left(room, (length, need, -1))
        for place in range(start, min(start + TRIES, len(room))):
            if room[place][1] >= need:
                free, free_tiles, number = room.pop(place)
                packs[number].append(sample)
                break
        else:
            free, free_tiles, number = capacity, max_tiles, len(packs)
            packs.append([sample])
        insort(room, (free - length, free_tiles - need, number))
    return packs


def lower_bound(
    tokens: NDArray[np.int64], tiles: NDArray[np.int64], capacity: int, max_tiles: int
) -> int:
    """Return a number of packs that no packing can be below."""
    by_tiles = -(-int(tiles.sum()) // max_tiles) if max_tiles else 0
    return max(-(-int(tokens.sum()) // capacity), by_tiles)
