"""Pictures to normalised tensors of 336 x 336, on one core: this project's decoder against Pillow.

    python -m tests.benchmarks.pixels [pictures]

Pillow's path is what most training code does: open, convert, resize with the bicubic filter, to float32.
"""

import sys
from functools import partial

import torch

from pipeline.image import decode, normalise
from tests.benchmarks.end_to_end import POLICY, usual
from tests.benchmarks.photos import photos
from tests.benchmarks.timing import Side, interleaved, show

ROUNDS = 5
OURS = "our decoder"
SIZES = {(448, 448): 2.0, (640, 480): None, (2048, 1536): 4.0}
"""(width, height) of the pictures -> by how much we mean to be faster."""


def ours(pictures: list[bytes]) -> int:
    return sum(len(normalise(decode(data, POLICY))) for data in pictures)


def pillow(pictures: list[bytes]) -> int:
    return sum(len(usual(data)) for data in pictures)


def main() -> None:
    """Print a table for each size."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    torch.set_num_threads(1)
    for (width, height), bar in SIZES.items():
        pictures = list(photos(count, width, height))
        size = sum(map(len, pictures)) // count
        title = f"pictures of {width} x {height} ({size:,} bytes) to tensors, one core"
        rates = interleaved(
            {OURS: partial(ours, pictures), "Pillow": partial(pillow, pictures)}, ROUNDS
        ).processor
        sides = [
            Side(name=name, rate=rate, bar=None if name == OURS else bar)
            for name, rate in rates.items()
        ]
        show(OURS, sides, "pictures", title)


if __name__ == "__main__":
    main()
