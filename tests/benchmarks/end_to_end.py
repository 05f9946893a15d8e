"""End to end on two cores: read, decode, pack, collate; the plan's loader against DataLoaders.

    python -m tests.benchmarks.end_to_end [samples]

All sides see the same photographs (JPEG, 448 x 448) and token ids made beforehand, and give batches of
packed rows of 2,048 tokens with tiles of 336 x 336. The usual way: torch's DataLoader with two worker
processes, Pillow's decode and bicubic filter, float32 pixels, first-fit packing in `collate_fn`. Each
DataLoader is also measured with this project's decoder in it, and our loader also with its pixels made
float32 by the one who takes them (in training, the device does that).
"""

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from catalog import Catalog
from pipeline.batch import IGNORE, IMAGE_TOKEN
from pipeline.encode import PICTURE, from_bytes
from pipeline.image import decode, normalise
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from tests.benchmarks.photos import photos
from tests.benchmarks.timing import Side, Work, interleaved, show
from tests.official import write_vqav2
from tests.tokenizer import make_tokenizer

ROUNDS, CORES = 3, 2
ROW, SAMPLES = 2048, 48
"""Tokens a packed row; samples in a DataLoader's batch, about as many as in a step of the plan."""
POLICY = ImagePolicy(kind="resize", size=336, tokens=144)
OURS = "PlanLoader, 2 threads"
Row = Mapping[str, Any]


def make_plan(folder: Path, samples: int) -> Plan:
    """Ingest photographs in VQAv2's layout, one question in two new, and plan one epoch."""
    root = write_vqav2(folder / "vqav2", questions=samples)
    files = sorted(root.glob("train2014/*.jpg"))
    for file, data in zip(files, photos(len(files), 448, 448), strict=True):
        file.write_bytes(data)
    ingest(Job(source="vqav2", root=root), folder / "catalog")
    values = {
        "name": "bench",
        "budget": {"epochs": 1},
        "sources": [{"source": "vqav2", "weight": 1}],
        "encoder": {"tokenizer": make_tokenizer(folder / "tok")},
        "image": POLICY.model_dump(),
        "packing": {"tokens": ROW, "packs_per_step": 4},
    }
    return Plan.build(Catalog.open(folder / "catalog"), Mixture.model_validate(values))


def rows_of(plan: Plan) -> list[dict[str, Any]]:
    """Return the same samples for the other sides: picture, token ids, loss mask."""
    catalog = Catalog.open(plan.file.parents[2])
    store = catalog.image_store()
    rows = []
    for part in plan.header["parts"]:
        frame = pl.read_parquet(catalog.path / part, columns=["image_ids", "data"])
        for image_ids, data in frame.iter_rows():
            ids, mask = from_bytes(data)
            picture = bytes(store.get(image_ids[0]))
            rows.append({"jpg": picture, "ids": ids.tolist(), "mask": mask.tolist()})
    return rows


def usual(data: bytes) -> Tensor:
    """Return a picture as most training code does: (1, 3, S, S) float32 in -1..1."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture = picture.resize((POLICY.size, POLICY.size), Image.Resampling.BICUBIC)
    array = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return array.float().div_(127.5).sub_(1.0)[None]


def collate(rows: Iterable[Row], read: Callable[[bytes], Tensor]) -> dict[str, Tensor]:
    """Decode, unfold the pictures' tokens, and pack first-fit into rows."""
    lines: list[list[tuple[Tensor, Tensor]]] = []
    room: list[int] = []
    pictures: list[list[Tensor]] = []
    for row in rows:
        tiles = read(row["jpg"])
        ids, mask = torch.tensor(row["ids"]), torch.tensor(row["mask"])
        repeats = torch.where(ids == PICTURE, POLICY.tokens * len(tiles), 1)
        ids = torch.where(ids == PICTURE, IMAGE_TOKEN, ids).repeat_interleave(repeats)
        labels = torch.where(mask.repeat_interleave(repeats), ids, IGNORE)
        place = next((i for i, left in enumerate(room) if left >= len(ids)), None)
        if place is None:
            place = len(lines)
            lines.append([])
            room.append(ROW)
            pictures.append([])
        lines[place].append((ids, labels))
        room[place] -= len(ids)
        pictures[place].append(tiles)
    batch = {
        "tokens": torch.zeros((len(lines), ROW), dtype=torch.int64),
        "labels": torch.full((len(lines), ROW), IGNORE),
        "positions": torch.zeros((len(lines), ROW), dtype=torch.int64),
        "segments": torch.zeros((len(lines), ROW), dtype=torch.int32),
        "pixels": torch.cat([tiles for some in pictures for tiles in some]),
    }
    for place, line in enumerate(lines):
        start = 0
        for member, (ids, labels) in enumerate(line, start=1):
            end = start + len(ids)
            batch["tokens"][place, start:end] = ids
            batch["labels"][place, start:end] = labels
            batch["positions"][place, start:end] = torch.arange(len(ids))
            batch["segments"][place, start:end] = member
            start = end
    return batch


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def hf_loader(folder: Path, rows: list[dict[str, Any]], read: Callable[[bytes], Tensor]) -> Any:
    import datasets

    datasets.disable_progress_bars()
    place = folder / "hf"
    if not place.exists():
        datasets.Dataset.from_list(rows).save_to_disk(str(place))
    return DataLoader(
        datasets.load_from_disk(str(place)),
        batch_size=SAMPLES,
        shuffle=True,
        num_workers=CORES,
        collate_fn=partial(collate, read=read),
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )


def web_loader(folder: Path, rows: list[dict[str, Any]], read: Callable[[bytes], Tensor]) -> Any:
    import webdataset

    shards = [str(folder / f"{number}.tar") for number in range(4)]
    if not (folder / "0.tar").exists():
        writers = [webdataset.TarWriter(shard) for shard in shards]
        for number, (row, writer) in enumerate(zip(rows, cycle(writers), strict=False)):
            text = {"ids": row["ids"], "mask": row["mask"]}
            writer.write({"__key__": f"{number:08}", "jpg": row["jpg"], "json": text})
        for writer in writers:
            writer.close()
    stream = webdataset.WebDataset(shards, shardshuffle=4).shuffle(1000)
    stream = stream.decode().map(_flat).batched(SAMPLES, collation_fn=partial(collate, read=read))
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=CORES,
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )


def _flat(sample: Row) -> Row:
    return {"jpg": sample["jpg"], **sample["json"]}


def count(batches: Iterable[Mapping[str, Tensor]]) -> int:
    return sum(len(batch["pixels"]) for batch in batches)


def our_side(plan: Plan, *, floats: bool) -> int:
    samples = 0
    for batch in PlanLoader(plan, workers=CORES):
        pixels = normalise(batch.pixels) if floats else batch.pixels
        samples += len(pixels)
    return samples


def decoder_alone(rows: list[dict[str, Any]]) -> int:
    """Decode the pictures from memory, in as many threads, and drop them."""
    with ThreadPoolExecutor(CORES) as pool:
        runs = [rows[first : first + 12] for first in range(0, len(rows), 12)]
        return sum(pool.map(lambda run: sum(len(decode(r["jpg"], POLICY)) for r in run), runs))


def main() -> None:
    """Print the table."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(1)
    ours = partial(decode, policy=POLICY)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = make_plan(folder, samples)
        rows = rows_of(plan)
        loaders: dict[str, tuple[Any, float | None]] = {
            "DataLoader over HF datasets, Pillow": (hf_loader(folder, rows, usual), 2),
            "DataLoader over WebDataset, Pillow": (web_loader(folder, rows, usual), 2),
            "DataLoader over HF datasets, our decoder": (hf_loader(folder, rows, ours), None),
            "DataLoader over WebDataset, our decoder": (web_loader(folder, rows, ours), None),
        }
        sides: dict[str, Work] = {
            OURS: partial(our_side, plan, floats=False),
            "PlanLoader, pixels made float32": partial(our_side, plan, floats=True),
            "the decoder alone, 2 threads": partial(decoder_alone, rows),
            **{side: partial(count, loader) for side, (loader, _) in loaders.items()},
        }
        bars = {side: bar for side, (_, bar) in loaders.items()}
        bars["the decoder alone, 2 threads"] = 0.9
        rates = interleaved(sides, ROUNDS)
        for by, found in (("the clock", rates.wall), ("processor time", rates.processor)):
            table = [Side(name=side, rate=rate, bar=bars.get(side)) for side, rate in found.items()]
            title = f"end to end, {CORES} cores, {samples:,} samples, by {by}"
            show(OURS, table, "samples", title)


if __name__ == "__main__":
    main()
