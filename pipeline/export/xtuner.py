"""XTuner's `preset` packs: JSON lines of samples, and arrays that say which of them make each pack.

`boundaries.npy` (packs + 1,) and `samples.npy` (slices, 6: path, sample, char_start, char_end,
token_start, token_end) as in xtuner/v1/datasets/preset_pack.py; `order.npy` for its preset sampler
is the order of the packs. Each line also carries its token ids and labels, pictures unfolded, so
that a tokenize function can take them as they are: then the packs are those of the plan.
"""

import json
from pathlib import Path

import numpy as np
import orjson

from pipeline.export.llava import save_pictures
from pipeline.export.rows import Drawn
from pipeline.plan import Plan

IGNORE = -100
"""Label of a position without loss."""


def write(file: Path, folder: Path, rows: list[Drawn]) -> None:
    """Write a shard's samples, a line each, and its pictures unless they are there."""
    lines = []
    for row in rows:
        save_pictures(folder, row)
        line = {
            "id": row.key,
            "messages": row.messages,
            "images": [f"images/{name}" for name, _ in row.pictures],
            "input_ids": row.ids.tolist(),
            "labels": np.where(row.mask, row.ids, IGNORE).tolist(),
            "num_tokens": row.tokens,
            "pack": [row.step, row.pack],
        }
        lines.append(orjson.dumps(line))
    file.write_bytes(b"".join(line + b"\n" for line in lines))


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Write the packs."""
    slices: list[tuple[int, int, int, int, int, int]] = []
    packs: list[int] = []
    last: list[int] | None = None
    for path, shard in enumerate(shards):
        with shard.open("rb") as file:
            for number, text in enumerate(file):
                line = orjson.loads(text)
                if line["pack"] != last:
                    packs.append(len(slices))
                    last = line["pack"]
                slices.append((path, number, -1, -1, 0, line["num_tokens"]))
    boundaries = np.array([*packs, len(slices)], np.int64)
    np.save(folder / "boundaries.npy", boundaries)
    np.save(folder / "samples.npy", np.array(slices, np.int64).reshape(-1, 6))
    np.save(folder / "order.npy", np.arange(len(packs), dtype=np.int64))
    paths = [str(shard.absolute()) for shard in shards]
    (folder / "paths.json").write_text(json.dumps(paths))
