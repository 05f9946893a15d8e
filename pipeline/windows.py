"""Draws -> packs in the order of the plan, a window at a time.

The draws of a window are packed; alike packs form groups, one pack for each of the ranks that steps are
balanced for; groups are put in an order that is random from afar and keeps the shares; whole steps come
out. Packs that are like no others are undone, and their draws join the next window; at the end of the run
they are spread over packs of even work.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import seed_of, shuffle
from pipeline.groups import ascending, folded, grouped, most_spread
from pipeline.mixture import Mixture
from pipeline.order import Herd, deviations
from pipeline.packing import SLACK, language_cost, lower_bound, pack, slack_of
from pipeline.ranks import deal
from pipeline.spread import spread

Integers = NDArray[np.int64]

LOOKAHEAD = 512
"""Packs among which the next ones are chosen: beyond, order is random."""
LEAST_GROUPS = 64
"""Groups among which the next one is chosen, at least."""
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
            draws=self.draws.take(places),
            members=self.members.take(places),
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
        self.herd = Herd(self.entries, max(LEAST_GROUPS, LOOKAHEAD // self.group))
        self.carried = np.zeros(0, np.int64)
        """Draws that are packed with the next window's."""
        self.placed = Packs.empty(0, self.entries)
        """Groups that do not make a step yet."""
        self.waiting = Packs.empty(0, self.entries)
        """Groups that have not been placed."""
        self.slack = dict(SLACK)

    def run(self, count: int) -> Iterator[Packs]:
        window = self.packing.window
        for start in range(0, count, window):
            end = min(start + window, count)
            draws = np.concatenate([self.carried, np.arange(start, end)])
            packs = self._group(self._pack(draws), start, last=end == count)
            if len(packs):
                yield packs

    def _pack(self, draws: Integers) -> Packs:
        facts, packing = self.facts(draws), self.packing
        binding = int(facts.tiles.sum()) * packing.tokens > int(facts.tokens.sum()) * packing.tiles
        numbers = pack(
            facts.tokens, facts.tiles, packing.tokens, packing.tiles, slack=self.slack[binding]
        )
        count = int(numbers.max()) + 1
        packs = self._packs(draws, numbers.astype(np.int64), count, facts)
        least = lower_bound(facts.tokens, facts.tiles, packing.tokens, packing.tiles)
        self.slack[binding] = slack_of(count, least)
        return packs

    def _packs(self, draws: Integers, numbers: Integers, count: int, facts: Facts) -> Packs:
        cost = language_cost(facts.tokens, self.packing.attention)
        values = (facts.tokens, facts.loss, facts.tiles, cost)
        # Sums of integers below 2^53: exact, so that the plan is the same on any machine.
        sums = [np.bincount(numbers, value, count).astype(np.int64) for value in values]
        held = np.bincount(
            numbers * self.entries + facts.entry, facts.unit, count * self.entries
        ).astype(np.int64)
        order = ascending(numbers)
        return Packs(
            draws=draws.take(order),
            members=facts.member.take(order),
            sizes=np.bincount(numbers, minlength=count),
            numbers=np.stack(sums, axis=1),
            held=held.reshape(count, self.entries),
        )

    def _group(self, packs: Packs, start: int, *, last: bool) -> Packs:
        """Group packs and return the next whole steps; the draws of odd packs are carried."""
        if last:
            # What has waited is grouped again, with all that is left.
            packs = Packs.joined([self.waiting, packs])
            self.waiting = Packs.empty(0, self.entries)
        tiles, cost = packs.numbers[:, 2], packs.numbers[:, 3]
        groups, odd = grouped(tiles, cost, self.group)
        groups = folded(groups, tiles, cost, self._deviations(packs.held))
        shown = np.flatnonzero(tiles[groups].any(axis=1))
        if last and tiles[odd].any() and len(shown):
            # Pictures enough for all ranks.
            odd = np.concatenate([odd, groups[shown[-1]]])
            groups = np.delete(groups, shown[-1], axis=0)
        self.carried = np.sort(packs.take(odd).draws)
        if last and len(odd):
            left = self._spread()
            groups = np.concatenate([groups, _runs(len(packs), len(packs) + len(left), self.group)])
            packs = Packs.joined([packs, left])
        keys = np.arange(len(groups), dtype=np.uint64)
        random = shuffle(keys, seed_of(self.mixture.seed, "groups", start))
        ready = np.arange(len(self.placed))
        before = len(self.placed) + len(self.waiting)
        waiting = _runs(len(self.placed), before, self.group)
        packs = Packs.joined([self.placed, self.waiting, packs])
        return self._order(
            packs, ready, np.concatenate([waiting, groups[random] + before]), last=last
        )

    def _spread(self) -> Packs:
        """Return groups of what is left when no window follows."""
        packing, facts = self.packing, self.facts(self.carried)
        numbers, groups = spread(
            facts.tokens, facts.tiles, packing.tokens, packing.tiles, self.group
        )
        return self._packs(self.carried, numbers, groups * self.group, facts)

    def _deviations(self, held: Integers) -> Integers:
        return deviations(held, self.shares, self.packing.tokens * self.group)

    def _order(self, packs: Packs, ready: Integers, groups: Integers, *, last: bool) -> Packs:
        """Return the next whole steps, `ready` packs first; some groups wait for the next window."""
        found = self._deviations(packs.held[groups].sum(axis=1))
        keep = 0 if last else min(len(groups), self.herd.buffer)
        placed, kept = self.herd.order(found, keep)
        if last:
            placed = self.herd.settle(found, placed)
        order = np.concatenate([ready, groups[placed].reshape(-1)])
        each = self.packing.packs_per_step
        if last and len(order) % each:
            # Empty packs complete the last step.
            missing = -len(order) % each
            order = np.concatenate([order, len(packs) + np.arange(missing)])
            packs = Packs.joined([packs, Packs.empty(missing, self.entries)])
        whole = len(order) // each * each
        self.placed = packs.take(order[whole:])
        self.waiting = packs.take(groups[kept].reshape(-1))
        steps = order[:whole].reshape(-1, each)
        # Within a step, the ranks have equal work.
        lean = self._deviations(packs.held)
        lean = lean[:, most_spread(lean)]
        dealt = deal(packs.numbers[steps, 2], packs.numbers[steps, 3], lean[steps], self.group)
        return packs.take(np.take_along_axis(steps, dealt, axis=1).reshape(-1))


def _runs(start: int, stop: int, each: int) -> Integers:
    """Return the packs from one to another as groups."""
    return np.arange(start, stop).reshape(-1, each)
