"""An order of packs in which every stretch is like the whole, and which is random otherwise.

Alike packs are dealt out together, one to each block of the order; of those, the block that has least
of what differs most between the blocks so far gets the pack that has most of it. Blocks stand in
random order, and so do the packs of a block.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import shuffle, splitmix

BLOCK = 128
"""Packs in a block, about."""
CURVE_BITS = 60
"""Bits of a place on the curve that brings alike packs together, shared by the features."""


def spread(features: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the order of packs with these features, of shape (packs, features), none negative."""
    count = len(features)
    blocks = max(1, -(-count // BLOCK))
    curve = np.argsort(_curve(features), kind="stable")
    scale = np.maximum(features.sum(axis=0), 1)
    held = np.zeros((blocks, features.shape[1]), np.int64)
    block, turns = np.empty(count, np.int64), np.empty(count, np.int64)
    everyone = np.arange(blocks, dtype=np.uint64)
    for start in range(0, count, blocks):
        packs = curve[start : start + blocks]
        # Where blocks are equal, and where packs are left over for some of them, chance decides.
        turn = shuffle(everyone, seed + start)[: len(packs)]
        apart = np.abs(held - held.sum(axis=0) // blocks).sum(axis=0) / scale
        feature = int(apart.argmax())
        poorest = turn[np.argsort(held[turn, feature], kind="stable")]
        richest = packs[np.argsort(-features[packs, feature], kind="stable")]
        block[richest] = poorest
        held[poorest] += features[richest]
        turns[packs] = start // blocks
    order = np.argsort(shuffle(everyone, seed - 1), kind="stable")[block]
    return np.lexsort((_parted(turns, order, seed), order))


def _parted(ranks: NDArray[np.int64], blocks: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return where each pack stands in its block, if it has this rank on the curve.

    Neighbours are parted at random, one into the first half of the block and one into the second,
    then the neighbours within each half, and so on: a stratified shuffle at every scale.
    """
    rank, block = ranks.astype(np.uint64), blocks.astype(np.uint64) << np.uint64(40)
    place = np.zeros(len(rank), np.uint64)
    one = np.uint64(1)
    for level in range(int(rank.max(initial=1)).bit_length()):
        pair = rank >> np.uint64(level + 1)
        coin = splitmix(block ^ (pair << np.uint64(20)) ^ place, seed + level) >> np.uint64(63)
        place = (place << one) | (((rank >> np.uint64(level)) & one) ^ coin)
    return place


def _curve(features: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return each pack's place on a Morton curve: the features' bits, highest first, in turn."""
    count = min(features.shape[1], CURVE_BITS)
    bits = min(12, CURVE_BITS // count)
    levels = (features * (2**bits - 1) // np.maximum(features.max(axis=0), 1)).astype(np.uint64)
    place = np.zeros(len(features), np.uint64)
    for bit in reversed(range(bits)):
        for feature in range(count):
            place = (place << np.uint64(1)) | (
                (levels[:, feature] >> np.uint64(bit)) & np.uint64(1)
            )
    return place
