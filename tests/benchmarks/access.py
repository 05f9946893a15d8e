"""Random access to pictures and token ids: the catalog against other readers, side by side.

    python -m tests.benchmarks.access [samples]

A sample is a picture of 31 kB and the ids and loss mask of 230 tokens. All sides hold the same
bytes and read all samples in random order, page cache warm. Three tables: in the first, every value
is owned, a copy of its own, on all sides; in the second, values are as each reader hands them out, the
catalog's as views of its files, the others' as the copies that they make; in the third, a checksum
reads every byte of each value where it lies, as a decoder does.
"""

import hashlib
import mmap
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.images import ImageStore
from catalog.parts import Part, write_part
from catalog.schema import ENCODINGS, image_table
from pipeline.checks import Picture
from tests.benchmarks.peers import (
    PEERS,
    Order,
    Read,
    Sample,
    Use,
    in_memory,
    installed,
    stored,
)
from tests.benchmarks.timing import Side, interleaved, show

ROUNDS = 5
PICTURE, TEXT = 31_000, 1_152
"""Bytes: a JPEG of about 448 pixels; 230 tokens with their loss mask. Whole 64-bit words."""
OURS = "catalog, as the loader reads"
MEMORY = "bytes in memory, copied"


def write_catalog(folder: Path, samples: Sequence[Sample]) -> tuple[Path, Path]:
    """Write the samples as the catalog's parts: pictures, encodings."""
    measured = Picture(format="JPEG", width=448, height=448, orientation=1)
    ids = [hashlib.sha256(picture).hexdigest() for picture, _ in samples]
    pictures = dict(zip(ids, ((measured, picture) for picture, _ in samples), strict=True))
    write_part(folder / "images.parquet", image_table(pictures), binary="data")
    rows = [
        {"sample_id": image_id, "image_ids": [image_id], "size": len(text), "data": text}
        for image_id, (_, text) in zip(ids, samples, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=ENCODINGS)
    write_part(folder / "encodings.parquet", table, binary="data")
    return folder / "images.parquet", folder / "encodings.parquet"


def catalog_sides(folder: Path, samples: Sequence[Sample], order: Order) -> dict[str, Read]:
    """Return the catalog read three ways.

    As the loader does (the plan names rows; the places of a file's pictures are looked up once, when
    it is opened), by id one at a time, and as the loader does with nothing opened or mapped yet.
    """
    images, encodings = write_catalog(folder, samples)

    def opened() -> tuple[ImageStore, Part, list[int]]:
        store = ImageStore([images], folder / "cache")
        ids = pl.read_parquet(encodings, columns=["image_ids"])["image_ids"].explode()
        return store, Part(encodings), store.places(ids).tolist()

    store, texts, places = opened()
    names = pl.read_parquet(encodings, columns=["sample_id"])["sample_id"].to_list()

    def many(store: ImageStore, texts: Part, places: list[int], use: Use) -> int:
        return sum(use(store.at(places[row])) + use(texts[row]) for row in order)

    def single(use: Use) -> int:
        return sum(use(store.get(names[row])) + use(texts[row]) for row in order)

    return {
        OURS: partial(many, store, texts, places),
        "catalog, by id": single,
        "catalog, opened anew": lambda use: many(*opened(), use),
    }


def copied(value: Any) -> int:
    """Own a copy; the other readers' values are copies already."""
    shared = isinstance(value, memoryview) and isinstance(value.obj, mmap.mmap)
    return len(bytes(value) if shared else value)


def checksum(value: Any) -> int:
    """Read every byte."""
    return int(np.bitwise_xor.reduce(np.frombuffer(value, np.uint64)) & np.uint64(0xFFFF))


def main() -> None:
    """Print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    noise = np.random.default_rng(0)
    print(f"{count:,} samples of {PICTURE:,} + {TEXT:,} bytes, medians of {ROUNDS} rounds")
    samples = [(noise.bytes(PICTURE), noise.bytes(TEXT)) for _ in range(count)]
    order = noise.permutation(count).tolist()
    with tempfile.TemporaryDirectory() as name:
        sides = catalog_sides(Path(name), samples, order)
        sides[MEMORY] = in_memory(samples, order)
        sides |= stored(Path(name), samples, order)
        for use, title in USES.items():
            right = sum(use(value) for sample in samples for value in sample)

            def work(read: Read, use: Use = use, right: int = right) -> int:
                assert read(use) == right, "a reader gave other bytes"
                return count

            rates = interleaved({name: partial(work, read) for name, read in sides.items()}, ROUNDS)
            show(OURS, rows(rates.wall, barred=use is copied), "samples", f"random access, {title}")


USES: dict[Use, str] = {
    copied: "every value owned",
    len: "as handed out: ours views, theirs copies",
    checksum: "every byte read where it lies",
}


def rows(rates: dict[str, float], *, barred: bool) -> list[Side]:
    """Return the table's rows, readers that are not installed among them."""
    ours = [
        Side(name=name, rate=rate, bar=0.8 if name == MEMORY and barred else None)
        for name, rate in rates.items()
        if name not in PEERS
    ]
    for name, (_, distribution, bar) in PEERS.items():
        found = installed(distribution)
        note = f"{distribution} {found}" if found else "not installed"
        bar = bar if barred else None
        ours.append(Side(name=name, rate=rates.get(name), note=note, bar=bar))
    return ours


if __name__ == "__main__":
    main()
