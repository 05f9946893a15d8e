"""Going on at any step of a long plan: seconds from opening to the first batch, and the state's size.

    python -m tests.benchmarks.resume [samples]

The plan has 10,000,000 samples of one picture each in 2,000 encodings files, the catalog as many
pictures (of a few bytes: only their index counts here). Steps are taken at random, each in a new process.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog import Catalog, schema, tables
from catalog.parts import write_part
from catalog.schema import ENCODINGS
from pipeline.encode import to_bytes
from pipeline.loader import PlanLoader
from pipeline.plan import Plan
from tests.benchmarks.timing import Told, tell

ROWS, MEMBERS, STEP = 5_000, 8, 4
"""Samples in an encodings file, samples in a pack, packs in a step."""
TEXT = 24
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)
"""A grey PNG of one pixel."""


def write_pictures(catalog: Path, samples: int) -> list[str]:
    """Store one real picture, and ids of as many others as there are samples; return some ids."""
    measured = {"format": "PNG", "width": 1, "height": 1, "orientation": 1}
    real = hashlib.sha256(PICTURE).hexdigest()
    rows = [{"image_id": real, "size": len(PICTURE), "data": PICTURE, **measured}]
    files = [catalog / "images" / "real.parquet"]
    write_part(files[0], pa.Table.from_pylist(rows, schema=schema.IMAGES), binary="data")
    for first in range(0, samples, 1_000_000):
        count = min(1_000_000, samples - first)
        noise = np.random.default_rng(first).bytes(32 * count).hex()
        offsets = np.arange(count + 1, dtype=np.int32) * 64
        ids = pa.StringArray.from_buffers(
            count, pa.py_buffer(offsets), pa.py_buffer(noise.encode())
        )
        columns: list[pa.Array] = [ids, pa.nulls(count, pa.string())]
        columns += [pa.nulls(count, kind) for kind in (pa.int32(), pa.int32(), pa.int8())]
        columns += [pa.array(np.ones(count, np.int32)), pa.array([b"x"] * count)]
        files.append(catalog / "images" / f"{first}.parquet")
        write_part(files[-1], pa.table(columns, schema=schema.IMAGES), binary="data")
    tables.add(catalog / "images", schema.IMAGES, files, partition={})
    return [real] * ROWS


def write_plan(folder: Path, samples: int) -> Path:
    """Write catalog and plan; all encodings files are one file under as many names."""
    catalog = folder / "catalog"
    Catalog.create(catalog)
    ids = write_pictures(catalog, samples)
    tokens = np.append(np.arange(TEXT - 1, dtype=np.int32), -1)
    data = to_bytes(tokens.astype(np.int32), tokens > 5)
    encoded = [
        {"sample_id": image_id, "image_ids": [image_id], "widths": [1], "heights": [1]}
        | {"size": len(data), "data": data}
        for image_id in ids
    ]
    place = catalog / "encodings" / "encoder=e" / "source=s"
    parts = -(-samples // ROWS)
    write_part(place / "0.parquet", pa.Table.from_pylist(encoded, schema=ENCODINGS), binary="data")
    for number in range(1, parts):
        os.link(place / "0.parquet", place / f"{number}.parquet")
    names = [f"encodings/encoder=e/source=s/{number}.parquet" for number in range(parts)]
    packs = samples // MEMBERS // STEP * STEP
    order = np.random.default_rng(0).permutation(samples)[: packs * MEMBERS]
    bounds = pa.array(np.arange(packs + 1) * MEMBERS, pa.int64())

    def members(values: np.ndarray) -> pa.Array:
        return pa.LargeListArray.from_arrays(bounds, pa.array(values.astype(np.uint32)))

    whole = MEMBERS * (TEXT - 1 + 4)
    numbers = {"tokens": whole, "loss_tokens": 1, "tiles": MEMBERS, "cost": 1}
    table = pa.table(
        {
            "step": np.arange(packs) // STEP,
            "parts": members(order // ROWS),
            "rows": members(order % ROWS),
        }
        | {name: np.full(packs, value, np.int64) for name, value in numbers.items()}
    )
    recipe = {
        "encoder": {"boxes": "shikra"},
        "image": {"size": 16, "tokens": 4},
        "packing": {"tokens": 256, "packs_per_step": STEP},
    }
    header = {"id": "0" * 64, "recipe": recipe, "parts": names, "catalog_version": 0}
    file = catalog / "plans" / "plan=0" / "plan.parquet"
    file.parent.mkdir(parents=True)
    groups = 16_384 // STEP * STEP
    metadata = {b"cuvee.plan": json.dumps(header).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=groups)
    return file


def resume(file: Path, share: float) -> tuple[float, float, int]:
    """Go on at a step; return the seconds to the first batch, those of the processor, the state's bytes."""
    started, used = perf_counter(), process_time()
    plan = Plan(file)
    loader = PlanLoader(plan, start_step=int(share * plan.steps))
    batches = iter(loader)
    assert len(next(batches).pixels) == STEP * MEMBERS
    state = len(json.dumps(loader.state()))
    return perf_counter() - started, process_time() - used, state


def main() -> None:
    """Print one line."""
    if sys.argv[1:2] == ["--one"]:
        print(*resume(Path(sys.argv[2]), float(sys.argv[3])))
        return
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        file = write_plan(Path(folder), samples)
        started = perf_counter()
        Catalog.open(file.parents[2]).image_store()
        indexed = perf_counter() - started
        found = []
        for share in np.random.default_rng(1).random(7):
            words = [
                sys.executable,
                "-m",
                "tests.benchmarks.resume",
                "--one",
                str(file),
                str(share),
            ]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found.append([float(word) for word in done.stdout.split()])
    times, state = [each[0] for each in found], max(each[2] for each in found)
    print(
        f"{samples:,} samples: first batch after {median(times):.2f} s (at most {max(times):.2f} s; bar 1), "
        f"{median(each[1] for each in found):.2f} s of processor time, state {state:.0f} bytes (bar 1,000); "
        f"the index of {samples:,} pictures was made once, in {indexed:.1f} s"
    )
    what = f"going on at any step of a plan of {samples:,} samples"
    tell(
        Told(what=what, against="seconds to the first batch", ours=f"{median(times):.2f}", bar="1")
    )
    tell(Told(what=what, against="bytes of state", ours=f"{state:.0f}", bar="1,000"))


if __name__ == "__main__":
    main()
