"""Pack draws into rows under two budgets, tokens and picture tiles: many draws at once, in numpy.

A draw's need is the larger part it takes of either budget, a pack's room the smaller part that it has
left: a draw fits where its need is no more than the room. The largest draws are dealt out one a pack,
to the emptiest first; the rest go, largest first and a batch at a time, each to the fullest pack that
holds it. Best fit draw by draw is a few per mille tighter and ten times slower.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

DEALT = 0.6
"""Part of the whole need that is dealt out before packs are filled by best fit."""
BATCHES = 64
"""Batches that are matched to packs one after the other: more are tighter and slower."""
TILED_BATCHES = 128
"""The same where tiles bind: fits of two budgets are harder to find."""
OPENED = 64
"""Most packs opened at a time, before the next samples are tried on them."""
FILLING = 4
"""A text of up to 1 / FILLING of a pack may be kept back to fill what tiles leave free."""


def pack(tokens: Integers, tiles: Integers, capacity: int, max_tiles: int) -> NDArray[np.int32]:
    """Return the pack of each sample; packs are numbered from 0 and none is empty.

    No pack has more than `capacity` tokens or `max_tiles` tiles; every sample alone must fit.

    >>> pack(np.array([6, 5, 4, 3]), np.array([1, 0, 1, 0]), 10, 2)
    array([0, 1, 0, 1], dtype=int32)
    """
    if not len(tokens):
        return np.zeros(0, np.int32)
    window = _Window(tokens.astype(np.int64), tiles.astype(np.int64), capacity, max(max_tiles, 1))
    order, dealt = window.order()
    window.deal(order[:dealt])
    rest = order[window.chosen[order] < 0]
    for samples in (rest[~window.filling[rest]], rest[window.filling[rest]]):
        window.fill(samples)
    used = np.bincount(window.chosen) > 0
    numbers: NDArray[np.int32] = (np.cumsum(used) - 1).astype(np.int32)[window.chosen]
    return numbers


class _Window:
    """Samples that are packed together, and what is left in each pack."""

    def __init__(self, tokens: Integers, tiles: Integers, capacity: int, max_tiles: int) -> None:
        self.tokens, self.tiles = tokens, tiles
        self.capacity, self.max_tiles = capacity, max_tiles
        self.whole = capacity * max_tiles
        self.need = np.maximum(tokens * max_tiles, tiles * capacity)
        """Of each sample, where a whole pack is `whole`."""
        assert self.need.max() <= self.whole, "a sample is longer than a pack"
        self.binding = int(tiles.sum()) * capacity > int(tokens.sum()) * max_tiles
        self.least = lower_bound(tokens, tiles, capacity, max_tiles)
        self.filling = _filling(tokens, tiles, capacity, max_tiles, self.least)
        self.chosen = np.full(len(tokens), -1, np.int64)
        self.free_tokens = np.full(self.least, capacity, np.int64)
        self.free_tiles = np.full(self.least, max_tiles, np.int64)

    def order(self) -> tuple[Integers, int]:
        """Return the samples, largest need first and the filling last, and how many are dealt."""
        need = np.where(self.filling, 0, self.need)
        order = _ascending(np.where(self.filling, self.whole - self.need, -need))
        reach = np.cumsum(need[order])
        return order, int(np.searchsorted(reach, DEALT * reach[-1]))

    def room(self, packs: Integers) -> Integers:
        """Return the smaller part that packs have left, in the measure of `need`."""
        tokens, tiles = self.free_tokens[packs], self.free_tiles[packs]
        return np.minimum(tokens * self.max_tiles, tiles * self.capacity)

    def put(self, samples: Integers, packs: Integers) -> None:
        """Put each sample into a pack, each into another."""
        self.chosen[samples] = packs
        self.free_tokens[packs] -= self.tokens[samples]
        self.free_tiles[packs] -= self.tiles[samples]

    def deal(self, samples: Integers) -> None:
        """Deal samples one a pack, largest to emptiest, again and again; some may find no room."""
        packs = np.arange(self.least)
        for start in range(0, len(samples), self.least):
            hand = samples[start : start + self.least]
            room = self.room(packs)
            emptiest = _ascending(-room)[: len(hand)]
            fits = self.need[hand] <= room[emptiest]
            self.put(hand[fits], emptiest[fits])

    def fill(self, samples: Integers) -> None:
        """Put samples, largest first, into the fullest packs that hold them; open packs at need."""
        smallest = self.need[samples].min(initial=self.whole)
        usable = np.arange(len(self.free_tokens))
        batch = -(-len(self.tokens) // (TILED_BATCHES if self.binding else BATCHES))
        for start in range(0, len(samples), batch):
            waiting = samples[start : start + batch]
            while len(waiting):
                room = self.room(usable)
                usable, room = usable[room >= smallest], room[room >= smallest]
                places = _best_fit(self.need[waiting], room)
                fits = places >= 0
                self.put(waiting[fits], usable[places[fits]])
                waiting = waiting[~fits]
                if not fits.any():
                    waiting = self.squeeze(waiting)
                    usable = np.concatenate([usable, self.open(waiting)])

    def squeeze(self, samples: Integers) -> Integers:
        """Put samples where each budget by itself still holds them; return those left over."""
        for count in np.unique(self.tiles[samples])[::-1]:
            alike = samples[self.tiles[samples] == count]
            alike = alike[_ascending(-self.tokens[alike])]
            usable = np.flatnonzero(
                (self.free_tiles >= count) & (self.free_tokens >= self.tokens[alike[-1]])
            )
            places = _best_fit(self.tokens[alike], self.free_tokens[usable])
            fits = places >= 0
            self.put(alike[fits], usable[places[fits]])
        return samples[self.chosen[samples] < 0]

    def open(self, samples: Integers) -> Integers:
        """Add empty packs for the first of these samples and return their numbers."""
        if not len(samples):
            return samples
        each = self.whole // int(self.need[samples[0]])
        count = min(-(-len(samples) // each), OPENED)
        first = len(self.free_tokens)
        self.free_tokens = np.append(self.free_tokens, np.full(count, self.capacity))
        self.free_tiles = np.append(self.free_tiles, np.full(count, self.max_tiles))
        return np.arange(first, first + count)


def _filling(
    tokens: Integers, tiles: Integers, capacity: int, max_tiles: int, packs: int
) -> NDArray[np.bool_]:
    """Return which texts come last: the shortest, as many as fill packs whose tiles are used up."""
    texts = tiles == 0
    if texts.all():
        return np.zeros(len(tiles), np.bool_)
    spare = capacity - max_tiles * tokens[~texts].sum() / tiles.sum()
    lengths = np.sort(tokens[texts & (tokens <= capacity // FILLING)])
    count = int(np.searchsorted(np.cumsum(lengths), spare * packs))
    longest = lengths[count - 1] if count else 0
    filling: NDArray[np.bool_] = texts & (tokens <= longest)
    return filling


def _ascending(values: Integers) -> Integers:
    """Return the stable order of integers, the same on every processor."""
    count = len(values)
    keyed = np.sort(values * count + np.arange(count))
    return keyed % max(count, 1)


def _best_fit(need: Integers, room: Integers) -> Integers:
    """Return for each need, in descending order, the place of a room that holds it, each used once.

    From the smallest need up, each takes the smallest room that is left; -1 where none is.

    >>> _best_fit(np.array([5, 4, 4]), np.array([9, 4, 3]))
    array([-1,  0,  1])
    """
    order = _ascending(room)
    rising = need[::-1]
    at = np.searchsorted(room[order], rising)
    turn = np.arange(len(need))
    # The first room that holds it, or the one after its predecessor's: a running maximum.
    at = turn + np.maximum.accumulate(at - turn)
    found = at < len(room)
    places = np.full(len(need), -1, np.int64)
    places[found] = order[at[found]]
    return places[::-1]


def lower_bound(tokens: Integers, tiles: Integers, capacity: int, max_tiles: int) -> int:
    """Return a number of packs that no packing can be below."""
    by_tiles = -(-int(tiles.sum()) // max_tiles) if max_tiles else 0
    return max(-(-int(tokens.sum()) // capacity), by_tiles)
