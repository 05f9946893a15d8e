"""MDS shards of MosaicML Streaming: `text` (JSON), and `pictures` as one value with their sizes in it.

Format: https://docs.mosaicml.com/projects/streaming/en/stable/fundamentals/dataset_format.html
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pipeline.export.rows import Drawn
from pipeline.export.webdataset import described
from pipeline.plan import Plan

COLUMNS = {"pictures": "bytes", "sample": "json"}
CONFIG: dict[str, Any] = {
    "column_encodings": list(COLUMNS.values()),
    "column_names": list(COLUMNS),
    "column_sizes": [None, None],
    "compression": None,
    "format": "mds",
    "hashes": [],
    "size_limit": None,
    "version": 2,
}


def write(file: Path, folder: Path, rows: list[Drawn]) -> None:
    """Write a shard: count, offsets, configuration, samples; each the sizes of its values, then they.

    The sizes of the pictures, which follow one another in `pictures`, stand in the sample's `sizes`.
    """
    samples = []
    for row in rows:
        pictures = b"".join(data for _, data in row.pictures)
        said = orjson.dumps(described(row) | {"sizes": [len(data) for _, data in row.pictures]})
        sizes = np.array([len(pictures), len(said)], "<u4").tobytes()
        samples.append(sizes + pictures + said)
    config = json.dumps(CONFIG, sort_keys=True).encode()
    start = 4 + 4 * (len(samples) + 1) + len(config)
    offsets = start + np.cumsum([0, *map(len, samples)])
    if offsets[-1] >= 2**32:
        raise ValueError(f"a shard of {offsets[-1]:,} bytes: MDS counts to {2**32 - 1:,}")
    head = len(samples).to_bytes(4, "little") + offsets.astype("<u4").tobytes() + config
    file.write_bytes(head + b"".join(samples))


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Write `index.json`."""
    described_shards = []
    for shard in shards:
        with shard.open("rb") as file:
            count = int.from_bytes(file.read(4), "little")
        raw = {"basename": shard.name, "bytes": shard.stat().st_size, "hashes": {}}
        described_shards.append(CONFIG | {"raw_data": raw, "samples": count, "zip_data": None})
    index = {"shards": described_shards, "version": 2}
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))
