"""Random access to pictures: this catalog against HF datasets and WebDataset, side by side.

    python -m tests.benchmarks.loader [pictures]

All sides hold the same bytes, rounds are interleaved in one process, medians are printed.
"""

import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import datasets
import numpy as np
import webdataset

from catalog.images import ImageStore
from catalog.parts import write_part
from catalog.schema import image_table
from pipeline.checks import Picture

ROUNDS = 5
SIZE = 31_000
"""Bytes a picture: a JPEG of about 448 pixels."""


def readers(folder: Path, pictures: dict[str, bytes]) -> dict[str, Callable[[], int]]:
    """Write the same pictures for every side; return functions that read all and count bytes."""
    measured = Picture(format="JPEG", width=448, height=448, orientation=1)
    table = image_table({key: (measured, data) for key, data in pictures.items()})
    write_part(folder / "images.parquet", table, binary="data")
    store = ImageStore([folder / "images.parquet"])
    rows = {"image_id": list(pictures), "data": list(pictures.values())}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows).save_to_disk(str(folder / "hf"))
    arrow = datasets.load_from_disk(str(folder / "hf"))
    with webdataset.TarWriter(str(folder / "shard.tar")) as writer:
        for key, data in pictures.items():
            writer.write({"__key__": key, "jpg": data})
    keys = list(pictures)
    order = np.random.default_rng(0).permutation(len(keys)).tolist()
    shard = str(folder / "shard.tar")

    def tar() -> int:
        stream = webdataset.WebDataset(shard, shardshuffle=False).shuffle(1000)
        return sum(len(item["jpg"]) for item in stream)

    return {
        "catalog, random access": lambda: sum(len(bytes(store.get(keys[i]))) for i in order),
        "bytes in memory, copied": lambda: sum(len(bytearray(pictures[keys[i]])) for i in order),
        "HF datasets, map-style": lambda: sum(len(arrow[i]["data"]) for i in order),
        "WebDataset, shuffle(1000)": tar,
    }


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    noise = np.random.default_rng(0)
    data = [noise.bytes(SIZE) for _ in range(count)]
    pictures = {hashlib.sha256(each).hexdigest(): each for each in data}
    with tempfile.TemporaryDirectory() as folder:
        sides = readers(Path(folder), pictures)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, read in sides.items():
                started = perf_counter()
                assert read() == count * SIZE
                seconds[name].append(perf_counter() - started)
    ours = median(seconds["catalog, random access"])
    print(f"{count:,} pictures of {SIZE:,} bytes, page cache warm, medians of {ROUNDS} rounds\n")
    print("| reader | pictures/s | the catalog is faster by |\n| --- | ---: | ---: |")
    for name, times in seconds.items():
        print(f"| {name} | {count / median(times):,.0f} | {median(times) / ours:.1f} |")


if __name__ == "__main__":
    main()
