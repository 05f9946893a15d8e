"""Pack draws into rows under two budgets, tokens and picture tiles: many draws at once, in numpy.

A draw's need is the larger part it takes of either budget, a pack's room the smaller part that it has
left: a draw fits where its need is no more than the room. The largest draws are dealt out one a pack,
to the emptiest first; the rest go, largest first and a batch at a time, each to the fullest pack that
holds it. Best fit draw by draw is a few per mille tighter and ten times slower.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.groups import ascending

Integers = NDArray[np.int64]

DEALT = 0.6
"""Part of the whole need that is dealt out before packs are filled by best fit."""
BATCHES = 32
"""Batches that are matched to packs one after the other."""
SLACK = {False: 50, True: 100}
"""Packs more than the lower bound to start with, in 10,000ths of it; the second where tiles bind. As many
as it takes in the end: the smallest samples then go into all packs, not by the dozen into a few last
ones. Of a window that went before, `slack_of` tells better."""
OPENED = 64
"""Most packs opened at a time, before the next samples are tried on them."""
ATTENTION = 12 * 2048
"""Length in tokens at which attention costs as much as all else, in a model 2,048 wide; a recipe may say
its own, `packing.attention`, as `tests/benchmarks/cost.py` measures it."""
FILLING = 5
"""A text of up to 1 / FILLING of a pack may be kept back to fill what tiles leave free."""


def pack(
    tokens: Integers,
    tiles: Integers,
    capacity: int,
    max_tiles: int,
    *,
    slack: int | None = None,
) -> NDArray[np.int32]:
    """Return the pack of each sample; packs are numbered from 0 and none is empty.

    No pack has more than `capacity` tokens or `max_tiles` tiles; every sample alone must fit.

    >>> pack(np.array([6, 5, 4, 3]), np.array([1, 0, 1, 0]), 10, 2)
    array([0, 1, 1, 0], dtype=int32)
    """
    if not len(tokens):
        return np.zeros(0, np.int32)
    window = _Window(
        tokens.astype(np.int64), tiles.astype(np.int64), capacity, max(max_tiles, 1), slack
    )
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

    def __init__(
        self,
        tokens: Integers,
        tiles: Integers,
        capacity: int,
        max_tiles: int,
        slack: int | None,
    ) -> None:
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
        slack = SLACK[self.binding] if slack is None else slack
        self.start = self.least + self.least * slack // 10_000
        self.free_tokens = np.full(self.start, capacity, np.int64)
        self.free_tiles = np.full(self.start, max_tiles, np.int64)

    def order(self) -> tuple[Integers, int]:
        """Return the samples, largest need first and the filling last, and how many are dealt."""
        need = np.where(self.filling, 0, self.need)
        order = ascending(np.where(self.filling, self.whole - self.need, -need))
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
        packs = np.arange(self.start)
        for start in range(0, len(samples), self.start):
            hand = samples[start : start + self.start]
            room = self.room(packs)
            emptiest = ascending(-room)[: len(hand)]
            fits = self.need[hand] <= room[emptiest]
            self.put(hand[fits], emptiest[fits])

    def fill(self, samples: Integers) -> None:
        """Put samples, largest first, into the fullest packs that hold them; open packs at need."""
        smallest = self.need[samples].min(initial=self.whole)
        usable = _Sorted(self.room, smallest, np.arange(len(self.free_tokens)), len(self.tokens))
        batch = -(-len(self.tokens) // BATCHES)
        for start in range(0, len(samples), batch):
            waiting = samples[start : start + batch]
            while len(waiting):
                places = _best_fit(self.need[waiting], usable.rooms())
                fits = places >= 0
                packs = usable.packs(places[fits])
                self.put(waiting[fits], packs)
                usable.renew(places[fits], packs)
                waiting = waiting[~fits]
                if not fits.any():
                    waiting = self.squeeze(waiting)
                    opened = self.open(waiting)
                    usable = _Sorted(
                        self.room, smallest, np.arange(len(self.free_tokens)), len(self.tokens)
                    )
                    assert len(opened) or not len(waiting)

    def squeeze(self, samples: Integers) -> Integers:
        """Put samples where each budget by itself still holds them; return those left over."""
        for count in np.unique(self.tiles[samples])[::-1]:
            alike = samples[self.tiles[samples] == count]
            alike = alike[ascending(-self.tokens[alike])]
            usable = np.flatnonzero(
                (self.free_tiles >= count) & (self.free_tokens >= self.tokens[alike[-1]])
            )
            usable = usable[ascending(self.free_tokens[usable])]
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


class _Sorted:
    """Packs in ascending order of their room, kept so while few of them change at a time.

    A key is a pack's room, shifted left, and its number: one sort of plain integers, without ties.
    """

    def __init__(
        self,
        room: Callable[[Integers], Integers],
        smallest: int,
        packs: Integers,
        most: int,
    ) -> None:
        self._room, self._smallest = room, smallest
        self._bits = (2 * most).bit_length()
        self._keys = self._of(packs)

    def _of(self, packs: Integers) -> Integers:
        room = self._room(packs)
        # A pack that the smallest sample does not fit into is of no more use.
        wide = room >= self._smallest
        return np.sort((room[wide] << self._bits) | packs[wide])

    def rooms(self) -> Integers:
        return self._keys >> self._bits

    def packs(self, places: Integers) -> Integers:
        """Return the numbers of the packs at these places."""
        return self._keys[places] & ((1 << self._bits) - 1)

    def renew(self, places: Integers, packs: Integers) -> None:
        """Put the packs of these places, whose room has changed, where they now belong."""
        keep = np.ones(len(self._keys), np.bool_)
        keep[places] = False
        merged = np.concatenate([self._keys[keep], self._of(packs)])
        # Two ascending runs: a stable sort merges them.
        merged.sort(kind="stable")
        self._keys = merged


def slack_of(packs: int, least: int) -> int:
    """Return the slack to start the next window with, after one that took so many packs.

    >>> slack_of(packs=1_020, least=1_000)
    198
    """
    # A little less, lest it only ever grows.
    return max((packs - least) * 10_000 // max(least, 1) - 2, 0)


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


def _best_fit(need: Integers, rooms: Integers) -> Integers:
    """Return for each need, in descending order, the place of a room that holds it, each used once.

    `rooms` ascend. From the smallest need up, each takes the smallest room that is left; -1 where
    none is.

    >>> _best_fit(np.array([5, 4, 4]), np.array([3, 4, 9]))
    array([-1,  2,  1])
    """
    at = np.searchsorted(rooms, need[::-1])
    turn = np.arange(len(need))
    # The first room that holds it, or the one after its predecessor's: a running maximum.
    at = turn + np.maximum.accumulate(at - turn)
    return np.where(at < len(rooms), at, -1)[::-1]


def language_cost(tokens: NDArray[np.int64], attention: int = ATTENTION) -> NDArray[np.int64]:
    """Return the language model's work on samples, in tokens of a layer without attention.

    A layer of width d does about 24 d² operations a token, and 4 d more for each token it attends to,
    on average half of its sample: samples of a pack do not attend to each other. At `attention` tokens
    the second is as much as the first.
    Source: Kaplan et al. (arXiv:2001.08361), section 2.1

    >>> language_cost(np.array([1_000, 12_288]), attention=12_288)
    array([ 1081, 24576])
    """
    return np.rint(tokens * (1 + tokens / attention)).astype(np.int64)


def lower_bound(tokens: Integers, tiles: Integers, capacity: int, max_tiles: int) -> int:
    """Return a number of packs that no packing can be below."""
    by_tiles = -(-int(tiles.sum()) // max_tiles) if max_tiles else 0
    return max(-(-int(tokens.sum()) // capacity), by_tiles)
