"""Which samples a run draws, in which order: exact shares by arithmetic, not by dice.

Every entry walks its own shuffles, epoch by epoch. Measured in the recipe's unit, the middle of an
entry's draw k stands at (sum of the draws before + half of draw k) / share; the entries are merged by
that place. With equal units it is (k + 1/2) / share, so every prefix of the run holds the shares to
within about a draw.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from catalog.errors import UserError
from pipeline.mixture import Mixture
from pipeline.pool import Pool

MARGIN = 1.05
"""Epochs are shuffled for so many times the draws expected from mean sizes."""
BLOCKS_TOGETHER = 8
"""Blocks whose samples are shuffled together, where a recipe shuffles by blocks."""
HALVINGS = 100
"""Steps of the search for the length of a run: more than a float has bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What an earlier part of the run has used up."""

    seen: tuple[NDArray[np.int64], ...]
    """For each entry, how often each sample of its pool was drawn."""
    samples: int
    tokens: int
    """Spent of the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The draws of a run, in order."""

    entry: NDArray[np.uint16]
    """Which entry of the recipe each draw is from."""
    sample: NDArray[np.uint32]
    """Which sample of that entry's pool."""


def splitmix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return well-mixed 64-bit hashes, the same on any machine and with any numpy.

    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
    """
    with np.errstate(over="ignore"):
        mixed = (values + np.uint64(seed % 2**64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def seed_of(*words: object) -> int:
    """Return a 64-bit seed that hangs on all these words."""
    text = "/".join(map(str, words)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def sort_plain(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return values in ascending order: Polars takes a third of the time that numpy does."""
    ordered: NDArray[np.uint64] = pl.Series(values).sort().to_numpy()
    return ordered


def shuffle(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint32]:
    """Return a permutation of the keys' places; the order of two keys hangs on these two alone."""
    mixed = splitmix(keys, seed)
    # The upper half decides, the lower half holds the place: one sort of plain numbers.
    mixed &= np.uint64(0xFFFFFFFF00000000)
    mixed |= np.arange(len(keys), dtype=np.uint64)
    return sort_plain(mixed).astype(np.uint32)


def shuffle_blocks(
    keys: NDArray[np.uint64], blocks: NDArray[np.uint64], seed: int
) -> NDArray[np.uint32]:
    """Return a permutation that stays within few blocks at a time.

    `blocks` tells the block of each key, neighbours alike. Blocks are shuffled, and the keys within so
    many blocks at a time: what is read together lies together.
    """
    starts = np.flatnonzero(np.diff(blocks, prepend=~blocks[:1]))
    turn = np.empty(len(starts), np.uint32)
    turn[shuffle(blocks[starts], seed ^ 1)] = np.arange(len(starts), dtype=np.uint32)
    lengths = np.diff(np.append(starts, len(blocks)))
    shelf = np.repeat(turn // BLOCKS_TOGETHER, lengths)
    if len(starts) // BLOCKS_TOGETHER < 2**16:
        # Short integers are sorted by radix.
        shelf = shelf.astype(np.uint16)
    order = shuffle(keys, seed)
    return order[np.argsort(shelf[order], kind="stable")]


def walk(
    seed: int,
    name: str,
    keys: NDArray[np.uint64],
    epochs: int,
    seen: NDArray[np.int64] | None = None,
    blocks: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint32]:
    """Return which sample an entry draws first, second, ...: a shuffle an epoch.

    It hangs on the seed, the entry's name and the keys: another entry reorders nothing. Samples that
    an earlier part of the run has `seen` so many times are passed over in as many epochs. With `blocks`,
    every shuffle stays within few of them at a time.
    """
    first = 0 if seen is None else int(seen.min(initial=0))
    walks = [np.zeros(0, np.uint32)]
    for epoch in range(first, first + epochs):
        own = seed_of(seed, name, epoch)
        order = shuffle(keys, own) if blocks is None else shuffle_blocks(keys, blocks, own)
        walks.append(order if seen is None else order[seen[order] <= epoch])
    return np.concatenate(walks)


def middles(units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return where the middle of each draw stands, in units from the first.

    >>> middles(np.array([2, 4]))
    array([1., 4.])
    """
    ends = np.cumsum(units)
    middle: NDArray[np.float64] = ends - units / 2
    return middle


def merge(places: Sequence[NDArray[np.float64]]) -> NDArray[np.uint16]:
    """Return the entry of each draw of the run; an entry's own draws keep their order.

    >>> merge([np.array([1.0, 3.0]), np.array([2.0])])
    array([0, 1, 0], dtype=uint16)
    """
    bits = len(places).bit_length()
    longest = max((float(place[-1]) for place in places if len(place)), default=1.0)
    # A place, to as many bits as there are, and below them the entry. Each entry's places ascend, and a
    # stable sort merges such runs quickly.
    scale = 2.0 ** (62 - bits) / longest
    keys = np.empty(sum(len(place) for place in places), np.uint64)
    start = 0
    for entry, place in enumerate(places):
        some = keys[start : start + len(place)]
        np.multiply(place, scale, out=some, casting="unsafe")
        some <<= np.uint64(bits)
        some |= np.uint64(entry)
        start += len(place)
    keys.sort(kind="stable")
    keys &= np.uint64(2**bits - 1)
    return keys.astype(np.uint16)


def draw(
    mixture: Mixture, pools: Sequence[Pool], past: Past | None = None
) -> tuple[Draws, NDArray[np.float64]]:
    """Return the draws of a run, or of what is left of it, and the share of each entry.

    Raises:
        UserError: an entry holds nothing in the unit, or less than the budget needs.
    """
    held = [int(pool.unit(mixture.unit).sum()) for pool in pools]
    for share, total in zip(mixture.sources, held, strict=True):
        if not total:
            raise UserError(
                f"{mixture.at(share)}: {share.name} holds no {mixture.unit}",
                fix="weigh in another unit, or take the entry out",
            )
    shares = mixture.shares(held)
    margin = MARGIN
    while True:
        walks = _Walks(mixture, pools, shares, np.array(held, np.float64), margin, past)
        if (scale := walks.scale()) is not None:
            return walks.draws(scale), shares
        margin *= 2


class _Walks:
    """The entries' walks, long enough for the expected length of the run."""

    def __init__(
        self,
        mixture: Mixture,
        pools: Sequence[Pool],
        shares: NDArray[np.float64],
        held: NDArray[np.float64],
        margin: float,
        past: Past | None,
    ) -> None:
        self.mixture, self.pools, self.shares, self.held = mixture, pools, shares, held
        caps = mixture.caps()
        used = np.zeros(len(pools))
        if past is not None:
            used[:] = [
                int(pool.unit(mixture.unit) @ seen)
                for pool, seen in zip(pools, past.seen, strict=True)
            ]
        self.before = used / held
        """Epochs of each entry that are over."""
        self.most = max(float(((caps * held - used) / shares).min()), 0.0)
        """Length of the run, in units, at which the first entry reaches its cap."""
        budget = mixture.budget
        self.amount = budget.samples or budget.tokens
        self.measure = "samples" if budget.samples else "all_tokens"
        if self.amount is not None and past is not None:
            self.amount = max(self.amount - (past.samples if budget.samples else past.tokens), 0)
        self.wanted = self.most
        if self.amount is not None:
            means = np.array([self._of(pool).sum() for pool in pools]) / held
            self.wanted = self.amount / float((shares * means).sum())
        epochs = np.ceil(np.minimum(caps, margin * shares * min(self.wanted, self.most) / held))
        self.orders: list[NDArray[np.uint32]] = []
        self.middles: list[NDArray[np.float64]] = []
        self.measured: list[NDArray[np.int64]] = []
        reach, self.capped = [], []
        for number, (share, pool) in enumerate(zip(mixture.sources, pools, strict=True)):
            seen = None if past is None else past.seen[number]
            # The first epoch may be nearly over: one more.
            times = max(int(epochs[number]), 1) + (seen is not None)
            blocks = pool.blocks if mixture.shuffle == "block" else None
            order = walk(mixture.seed, share.name, pool.key, times, seen, blocks)
            limit = int(caps[number] * len(pool) + 1e-9)
            if seen is not None:
                limit = max(limit - int(seen.sum()), 0)
            self.capped.append(len(order) >= limit)
            order = order[:limit]
            units = pool.unit(mixture.unit).take(order)
            self.orders.append(order)
            self.middles.append(middles(units))
            if self.amount is not None:
                measured = np.cumsum(self._of(pool).take(order))
                self.measured.append(np.concatenate([[0], measured]))
            reach.append(float(units.sum()) / shares[number])
        self.reach = np.array(reach)
        """Length of the run, in units, that each walk suffices for."""

    def _of(self, pool: Pool) -> NDArray[np.int64]:
        return pool.unit("samples" if self.measure == "samples" else "all_tokens")

    def counts(self, scale: float) -> list[int]:
        """Return how many draws of each entry a run of this length in units has."""
        # A hair more, so that a run that ends at a draw's place has this draw.
        ends = self.shares * scale * (1 + 1e-12)
        return [
            int(np.searchsorted(middle, end, side="right"))
            for middle, end in zip(self.middles, ends, strict=True)
        ]

    def amount_at(self, scale: float) -> int:
        """Return the samples or tokens of a run of this length in units."""
        counts = self.counts(scale)
        return sum(int(m[count]) for m, count in zip(self.measured, counts, strict=True))

    def scale(self) -> float | None:
        """Return the length of the run in units; None if the walks are too short to say.

        Raises:
            UserError: an entry reaches its cap before the budget is spent.
        """
        most = float(self.reach.min())
        if self.amount is None:
            binding = int(self.reach.argmin())
            return most if self.capped[binding] else None
        if self.amount_at(most) < self.amount:
            if not self.capped[int(self.reach.argmin())]:
                return None
            self._refuse(most)
        low, high = 0.0, most
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.amount_at(middle) < self.amount:
                low = middle
            else:
                high = middle
        return high

    def _refuse(self, most: float) -> None:
        assert self.amount is not None
        caps, reached = self.mixture.caps(), self.amount_at(most)
        epochs = self.before + self.shares * self.wanted / self.held
        lines = [
            f"{share.name}: {wanted:.2f} epochs wanted, max_epochs is {cap:g}"
            for share, wanted, cap, reach in zip(
                self.mixture.sources, epochs, caps, self.reach, strict=True
            )
            if wanted > cap or reach <= most
        ]
        kind = "samples" if self.measure == "samples" else "tokens"
        raise UserError(
            f"{self.mixture.name}: the budget is {self.amount:,} {kind}, and the sources suffice for "
            f"{reached:,}\n" + "\n".join(lines),
            fix=f"take {reached / self.amount:.1%} of the budget, raise `max_epochs`, or lower these "
            "weights",
        )

    def draws(self, scale: float) -> Draws:
        """Return the draws of a run of this length, cut where the budget is spent."""
        counts = self.counts(scale)
        entry = merge(
            [
                middle[:count] / share
                for middle, count, share in zip(self.middles, counts, self.shares, strict=True)
            ]
        )
        # Where the draws of the first entry stand, of the second, and so on: short integers are
        # sorted by radix.
        places = np.argsort(
            entry.astype(np.uint8 if len(counts) <= 256 else np.uint16), kind="stable"
        )
        sample = np.empty(len(entry), np.uint32)
        orders = [order[:count] for order, count in zip(self.orders, counts, strict=True)]
        sample[places] = np.concatenate(orders)
        end = len(entry)
        if self.amount is not None:
            size = np.empty(len(entry), np.int64)
            size[places] = np.concatenate(
                [np.diff(m[: count + 1]) for m, count in zip(self.measured, counts, strict=True)]
            )
            end = int(np.searchsorted(np.cumsum(size), self.amount, side="right"))
        return Draws(entry=entry[:end], sample=sample[:end])
