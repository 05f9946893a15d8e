"""Draws -> packs in the order of the plan, a window at a time.

The draws of a window are packed; alike packs form groups, one pack for each of the ranks that steps are
balanced for; groups are put in an order that is random from afar and keeps the shares; whole steps come
out. The emptiest packs, those that complete no group, are undone: their draws join the next window.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import seed_of, shuffle
from pipeline.mixture import Mixture
from pipeline.order import Herd, deviations
from pipeline.packing import SLACK, language_cost, lower_bound, pack, slack_of
from pipeline.ranks import deal

Integers = NDArray[np.int64]

LOOKAHEAD = 1024
"""Packs among which the next ones are chosen: beyond, order is random. No fewer than 128 groups."""
COLUMNS = ("tokens", "loss_tokens", "tiles", "cost")
"""Columns of `Packs.numbers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the plan needs to know of some draws, one after the other."""

    tokens: Integers
    loss: Integers
    tiles: Integers
    entry: Integers
    unit: Integers
    """What each weighs in the recipe's unit."""
    member: Integers
    """What the plan's file says of each: the encodings file, shifted left by 32 bits, and the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packs:
    """P packs of D draws in all, one after the other."""

    draws: Integers
    """(D,) numbers of draws."""
    members: Integers
    """(D,) `Facts.member`."""
    sizes: Integers
    """(P,) draws in each pack; 0 for an empty one."""
    numbers: Integers
    """(P, 4): `COLUMNS`."""
    held: Integers
    """(P, entries): what each holds of each entry, in the recipe's unit."""

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, order: Integers) -> "Packs":
        """Return these packs in this order."""
        ends = np.cumsum(self.sizes)
        sizes = self.sizes[order]
        shifts = (ends - self.sizes)[order] - (np.cumsum(sizes) - sizes)
        places = np.arange(int(sizes.sum())) + np.repeat(shifts, sizes)
        return Packs(
            draws=self.draws[places],
            members=self.members[places],
            sizes=sizes,
            numbers=self.numbers[order],
            held=self.held[order],
        )

    @classmethod
    def joined(cls, packs: Sequence["Packs"]) -> "Packs":
        """Return all these packs, one after the other."""
        return cls(
            **{
                name: np.concatenate([getattr(some, name) for some in packs])
                for name in ("draws", "members", "sizes", "numbers", "held")
            }
        )

    @classmethod
    def empty(cls, count: int, entries: int) -> "Packs":
        """Return packs without draws."""
        return cls(
            draws=np.zeros(0, np.int64),
            members=np.zeros(0, np.int64),
            sizes=np.zeros(count, np.int64),
            numbers=np.zeros((count, len(COLUMNS)), np.int64),
            held=np.zeros((count, entries), np.int64),
        )


def steps(
    mixture: Mixture,
    shares: Sequence[float],
    count: int,
    facts: Callable[[Integers], Facts],
) -> Iterator[Packs]:
    """Yield the packs of `count` draws, whole steps of them each time.

    `facts` tells what draws of these numbers are.
    """
    return _Windows(mixture, shares, facts).run(count)


class _Windows:
    """Where packing stands between two windows."""

    def __init__(
        self, mixture: Mixture, shares: Sequence[float], facts: Callable[[Integers], Facts]
    ) -> None:
        self.mixture, self.packing, self.facts = mixture, mixture.packing, facts
        self.shares, self.entries = shares, len(mixture.sources)
        self.group = gcd(self.packing.packs_per_step, self.packing.balanced_ranks)
        self.herd = Herd(self.entries, max(128, LOOKAHEAD // self.group))
        self.carried = np.zeros(0, np.int64)
        self.waiting = Packs.empty(0, self.entries)
        """Groups that have not been placed."""
        self.placed = Packs.empty(0, self.entries)
        """Groups that do not make a step yet."""
        self.slack = dict(SLACK)

    def run(self, count: int) -> Iterator[Packs]:
        window = self.packing.window
        for start in range(0, count, window):
            end = min(start + window, count)
            draws = np.concatenate([self.carried, np.arange(start, end)])
            packs = self._order(self._pack(draws, last=end == count), start, last=end == count)
            self.placed = Packs.joined([self.placed, packs])
            each = self.packing.packs_per_step
            whole = len(self.placed) // each * each
            if end == count and whole < len(self.placed):
                # Empty packs complete the last step, so that no sample is dropped.
                missing = whole + each - len(self.placed)
                self.placed = Packs.joined([self.placed, Packs.empty(missing, self.entries)])
                whole += each
            if whole:
                yield self._deal(self.placed.take(np.arange(whole)))
                self.placed = self.placed.take(np.arange(whole, len(self.placed)))

    def _pack(self, draws: Integers, *, last: bool) -> Packs:
        """Pack draws; return groups of alike packs, and carry what completes none."""
        facts, packing = self.facts(draws), self.packing
        binding = int(facts.tiles.sum()) * packing.tokens > int(facts.tokens.sum()) * packing.tiles
        numbers = pack(
            facts.tokens, facts.tiles, packing.tokens, packing.tiles, slack=self.slack[binding]
        )
        count = int(numbers.max()) + 1
        least = lower_bound(facts.tokens, facts.tiles, packing.tokens, packing.tiles)
        self.slack[binding] = slack_of(count, least)
        packs = self._packs(draws, numbers.astype(np.int64), count, facts)
        if last:
            # What has waited is grouped again, with all that is left.
            packs = Packs.joined([self.waiting, packs])
            self.waiting = self.waiting.take(np.zeros(0, np.int64))
        tokens, tiles, cost = packs.numbers[:, 0], packs.numbers[:, 2], packs.numbers[:, 3]
        # Neighbours are alike in both: where tiles change, cost goes on from where it is.
        alike = np.lexsort((np.where(tiles % 2, -cost, cost), tiles))
        kinds = [alike]
        if packing.pictures == "every_rank":
            kinds = [alike[tiles[alike] == 0], alike[tiles[alike] > 0]]
        fullness = np.maximum(tokens * max(packing.tiles, 1), tiles * packing.tokens)
        chosen, left = [], []
        for kind in kinds:
            over = len(kind) % self.group
            emptiest = np.zeros(len(kind), np.bool_)
            emptiest[np.argsort(fullness[kind], kind="stable")[:over]] = True
            chosen.append(kind[~emptiest])
            left.append(kind[emptiest])
        if not last:
            self.carried = np.sort(packs.take(np.concatenate(left)).draws)
            return packs.take(np.concatenate(chosen))
        self.carried = np.zeros(0, np.int64)
        groups: list[Packs] = []
        for whole, some in zip(chosen, left, strict=True):
            alikes = packs.take(np.concatenate([whole, some]))
            if not len(some):
                groups.append(alikes)
                continue
            if packing.pictures == "every_rank" and tiles[some[0]]:
                alikes = self._split(alikes, self.group - len(some))
            # Empty packs complete the last group, so that no sample is dropped.
            groups += [alikes, Packs.empty(-len(alikes) % self.group, self.entries)]
        return Packs.joined(groups)

    def _packs(self, draws: Integers, numbers: Integers, count: int, facts: Facts) -> Packs:
        cost = np.rint(language_cost(facts.tokens)).astype(np.int64)
        values = (facts.tokens, facts.loss, facts.tiles, cost)
        # Sums of integers below 2^53: exact, so that the plan is the same on any machine.
        sums = [np.bincount(numbers, value, count).astype(np.int64) for value in values]
        held = np.bincount(
            numbers * self.entries + facts.entry, facts.unit, count * self.entries
        ).astype(np.int64)
        order = np.argsort(numbers, kind="stable")
        return Packs(
            draws=draws[order],
            members=facts.member[order],
            sizes=np.bincount(numbers, minlength=count),
            numbers=np.stack(sums, axis=1),
            held=held.reshape(count, self.entries),
        )

    def _split(self, packs: Packs, missing: int) -> Packs:
        """Move draws with pictures out of packs that have several into packs of their own.

        There are fewer than `missing` new packs if fewer draws with pictures can be spared.
        """
        pack_of = np.repeat(np.arange(len(packs)), packs.sizes)
        facts = self.facts(packs.draws)
        shown = np.flatnonzero(facts.tiles > 0)
        # The first of each pack stays; the last packs, which are the emptiest, give first.
        spare = shown[np.flatnonzero(np.diff(pack_of[shown], prepend=-1) == 0)][::-1]
        moved = spare[:missing]
        pack_of[moved] = len(packs) + np.arange(len(moved))
        return self._packs(packs.draws, pack_of, len(packs) + len(moved), facts)

    def _order(self, packs: Packs, start: int, *, last: bool) -> Packs:
        """Return the next groups in the order of the plan; some wait for the next window."""
        each = self.group
        count = len(packs) // each
        keys = np.arange(count, dtype=np.uint64)
        random = shuffle(keys, seed_of(self.mixture.seed, "groups", start)).astype(np.int64)
        packs = Packs.joined([self.waiting, packs.take(_members(random, each))])
        held = packs.held.reshape(-1, each, self.entries).sum(axis=1)
        groups = deviations(held, self.shares, self.packing.tokens * each)
        keep = 0 if last else min(len(groups), self.herd.buffer)
        placed, kept = self.herd.order(groups, keep)
        if last:
            placed = self.herd.settle(groups, placed)
        self.waiting = packs.take(_members(kept, each))
        return packs.take(_members(placed, each))

    def _deal(self, packs: Packs) -> Packs:
        """Order the packs of each step so that the ranks have equal work."""
        each = self.packing.packs_per_step
        tiles, cost = (packs.numbers[:, i].reshape(-1, each) for i in (2, 3))
        order = deal(tiles, cost, self.group)
        first = np.arange(0, len(packs), each)[:, None]
        return packs.take((order + first).reshape(-1))


def _members(groups: Integers, each: int) -> Integers:
    """Return the packs of these groups.

    >>> _members(np.array([2, 0]), 2)
    array([4, 5, 0, 1])
    """
    members: Integers = (groups[:, None] * each + np.arange(each)).reshape(-1)
    return members
