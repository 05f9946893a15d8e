"""The order of packs: a permutation, alike everywhere, and another one for another seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.spread import spread


@given(st.integers(1, 700), st.integers(1, 70), st.integers(0, 2**64 - 1))
def test_every_pack_comes_once(packs: int, features: int, seed: int) -> None:
    held = np.random.default_rng(packs).integers(0, 9000, (packs, features))
    order = spread(held, seed)
    assert sorted(order.tolist()) == list(range(packs))
    assert order.tolist() == spread(held, seed).tolist()
    if packs > 20:
        assert order.tolist() != spread(held, seed ^ 1).tolist()


def test_every_stretch_is_like_the_whole() -> None:
    random = np.random.default_rng(0)
    held = random.multinomial(6, [0.4, 0.3, 0.2, 0.1], 10_000) * random.integers(
        900, 1400, (10_000, 1)
    )
    share = held.sum(axis=0) / held.sum()

    def worst(rows: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> float:
        reach = np.concatenate([np.zeros((1, 4)), np.cumsum(rows, axis=0)])
        stretch = reach[1500:] - reach[:-1500]
        return float(np.abs(stretch / stretch.sum(axis=1, keepdims=True) - share).max())

    assert worst(held[spread(held, 1)]) < 0.005
    assert worst(held[random.permutation(len(held))]) > 0.008, "a plain shuffle is not enough"


def test_the_order_is_random_beyond_neighbours() -> None:
    place = np.argsort(spread(np.full((4096, 2), 7), 3))
    for apart in (200, 512, 1024, 2048):
        assert abs(np.corrcoef(place[:-apart], place[apart:])[0, 1]) < 0.1
    assert len(np.unique(np.diff(place))) > 2000
