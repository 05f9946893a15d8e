"""The numbers of the pre-flight: what a run will see of each entry, and how full its packs are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import Draws, Past
from pipeline.mixture import UNITS, Mixture
from pipeline.pool import Pool
from pipeline.windows import Packs


class Totals:
    """Sums over the packs of a plan."""

    def __init__(self) -> None:
        self.packs = self.filled = 0
        self.sums = np.zeros(4, np.int64)

    def add(self, packs: Packs) -> None:
        """Count some packs."""
        self.add_rows(packs.sizes, packs.numbers)

    def add_rows(self, sizes: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Count packs of these sizes and `Packs.numbers`."""
        self.packs += len(sizes)
        self.filled += int((sizes > 0).sum())
        self.sums += numbers.sum(axis=0)

    def numbers(self, mixture: Mixture) -> dict[str, Any]:
        """Return the part `packing` of the header."""
        packing = mixture.packing
        tokens, loss, tiles, cost = map(int, self.sums)
        by_tiles = -(-tiles // packing.tiles) if packing.tiles else 0
        bound = max(-(-tokens // packing.tokens), by_tiles)
        return {
            "packs": self.filled,
            "empty_packs": self.packs - self.filled,
            "lower_bound": bound,
            "steps": self.packs // packing.packs_per_step,
            "tokens": tokens,
            "loss_tokens": loss,
            "tiles": tiles,
            "cost": cost,
            "occupancy": tokens / max(self.filled * packing.tokens, 1),
            "of_lower_bound": bound / max(self.filled, 1),
        }


def entries_of(
    mixture: Mixture,
    pools: Sequence[Pool],
    draws: Draws,
    shares: NDArray[np.float64],
    past: Past | None = None,
) -> list[dict[str, Any]]:
    """Return the part `entries` of the header: of the draws, and what was seen before them."""
    seen = [0] * len(pools) if past is None else past.seen
    times = [
        np.bincount(draws.sample[draws.entry == place], minlength=len(pool))
        for place, pool in enumerate(pools)
    ]
    totals = {
        unit: [int(pool.unit(unit) @ t) for pool, t in zip(pools, times, strict=True)]
        for unit in UNITS
    }
    caps = mixture.caps()
    held = [int(pool.members.sum()) for pool in pools]
    return [
        {
            "name": share.name,
            "requested": float(shares[place]),
            "realised": {
                unit: values[place] / max(sum(values), 1) for unit, values in totals.items()
            },
            "amounts": {unit: values[place] for unit, values in totals.items()},
            "samples": held[place],
            "draws": totals["samples"][place],
            "seen_before": int((pool.members * seen[place]).sum()),
            "epochs": (totals["samples"][place] + int((pool.members * seen[place]).sum()))
            / held[place],
            "max_epochs": float(caps[place]),
            "never_seen": int(pool.members[times[place] + seen[place] == 0].sum()),
            **pool.left_out,
            "truncated": pool.truncated,
            "conversations": int(times[place].sum()),
            "saved": int(((pool.members - 1) * pool.unit("visual_tokens")) @ times[place]),
        }
        for place, (share, pool) in enumerate(zip(mixture.sources, pools, strict=True))
    ]
