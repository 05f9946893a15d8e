"""Ingest against writing the same records as a Hugging Face dataset and as WebDataset shards.

`python -m tests.benchmarks.ingest [--records N]` makes a LLaVA release of N records, five a picture of
about 30 KB, and writes it with each side in turn: first on one core, then with a process a core, ours as
`cuvee ingest --runner local` runs it. Ours hashes every picture, and stores it once. It is measured twice:
as it is, decoding every picture, which no other side does, and as `--check markers` leaves that out.
`--json BYTES` measures the memory of a large file instead.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console

from catalog import Catalog
from flows.ingest import run_ingest
from pipeline.build import MEASURED
from pipeline.checks import Check
from pipeline.ingest import build, commit, cut, survey
from pipeline.jobs import Job
from pipeline.sources.base import read_rows
from tests.benchmarks.photos import photos
from tests.benchmarks.timing import Side, show

PER_PICTURE = 5
WORDS = [
    "a",
    "photo",
    "shows",
    "two",
    "red",
    "cats",
    "and",
    "one",
    "small",
    "dog",
    "on",
    "the",
    "old",
    "wooden",
    "table",
    "near",
    "a",
    "window",
]


def write_release(root: Path, records: int) -> Path:
    """Write a LLaVA release: one JSON file, and its pictures."""
    (root / "coco").mkdir(parents=True)
    rows = []
    for number, data in enumerate(photos(records // PER_PICTURE, 440, 330)):
        name = f"coco/{number:09}.jpg"
        (root / name).write_bytes(data)
        for turn in range(PER_PICTURE):
            rows.append(row(number * PER_PICTURE + turn, name))
    (root / "chat.json").write_bytes(orjson.dumps(rows))
    return root


def row(number: int, image: str) -> dict[str, Any]:
    """Return one made-up conversation."""
    words = [WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(40)]
    return {
        "id": f"{number:09}",
        "image": image,
        "conversations": [
            {"from": "human", "value": f"<image>\nWhat about {' '.join(words[:8])}?"},
            {"from": "gpt", "value": " ".join(words)},
        ],
    }


def ours(check: Check, root: Path, target: Path, processes: int) -> dict[str, float]:
    """Ingest; return the seconds of each step where one process does them all."""
    job, steps = Job(source="llava", root=root, check=check), {}
    MEASURED.clear()  # of a round before
    if processes > 1:
        with (root.parent / "said").open("w") as said:
            assert run_ingest(
                target, [job], workers=processes, runner="local", console=Console(file=said)
            )
        return {}
    Catalog.create(target)
    chunks, steps["annotations"] = timed(lambda: list(cut(job, target)))
    built, steps["pictures, checks, parts"] = timed(lambda: [build(c, target) for c in chunks])
    _, steps["commit"] = timed(lambda: commit(job, built, target))
    return steps


def entries(root: Path, shard: int, shards: int) -> Iterator[dict[str, Any]]:
    """Yield one shard of the release's records."""
    rows = list(read_rows(root / "chat.json"))
    yield from rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]


def hugging_face(root: Path, target: Path, processes: int) -> dict[str, float]:
    """Write an Arrow dataset with the pictures inside."""
    import datasets

    datasets.disable_progress_bars()
    text = datasets.Value("string")
    features = datasets.Features(
        {"id": text, "image": datasets.Image(), "conversations": [{"from": text, "value": text}]}
    )

    def rows(shards: list[int]) -> Iterator[dict[str, Any]]:
        for shard in shards:
            for entry in entries(root, shard, processes):
                data = (root / entry["image"]).read_bytes()
                yield entry | {"image": {"bytes": data, "path": None}}

    made, seconds = timed(
        lambda: datasets.Dataset.from_generator(
            rows,
            features=features,
            cache_dir=str(target / "cache"),
            gen_kwargs={"shards": list(range(processes))},
            num_proc=processes if processes > 1 else None,
        )
    )
    _, saving = timed(
        lambda: made.save_to_disk(
            str(target / "saved"), num_proc=processes if processes > 1 else None
        )
    )
    assert len(made) == len(list(read_rows(root / "chat.json")))
    return {"from_generator": seconds, "save_to_disk": saving}


def write_tars(root: Path, target: Path, shard: int, shards: int) -> None:
    """Write one process's tar shards."""
    import webdataset as wds

    pattern = str(target / f"{shard}-%06d.tar")
    with wds.ShardWriter(pattern, maxcount=5000, verbose=0) as writer:
        for entry in entries(root, shard, shards):
            data = (root / entry["image"]).read_bytes()
            writer.write({"__key__": entry["id"], "jpg": data, "json": orjson.dumps(entry)})


def webdataset(root: Path, target: Path, processes: int) -> dict[str, float]:
    """Write tar shards."""
    target.mkdir()
    if processes == 1:
        write_tars(root, target, 0, 1)
        return {}
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=write_tars, args=(root, target, shard, processes))
        for shard in range(processes)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert all(writer.exitcode == 0 for writer in writers)
    return {}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work returns, and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


SIDES: dict[str, Callable[[Path, Path, int], dict[str, float]]] = {
    "cuvee --check markers": partial(ours, "markers"),
    "cuvee": partial(ours, "decode"),
    "HF datasets": hugging_face,
    "WebDataset": webdataset,
}
AS_PEERS = "cuvee --check markers"
"""Ours with no more looks into a picture than the other sides have."""
BARS = {"HF datasets": 1.5, "WebDataset": 1.5}
RERUN = 0.02
"""A rerun with nothing new takes at most so much of the first run, on one core."""


def compare(records: int, rounds: int, cores: int) -> None:
    """Print the rates of all sides, on one core and on more."""
    for module in ("datasets", "webdataset"):
        __import__(module)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = write_release(folder / "release", records)
        sizes = [file.stat().st_size for file in (root / "coco").iterdir()]
        print(
            f"{records:,} records, {len(sizes):,} pictures of {sum(sizes) / len(sizes):,.0f} bytes"
        )
        everywhere = sorted(os.sched_getaffinity(0))
        for used in sorted({1, cores}):
            os.sched_setaffinity(0, everywhere[:used])
            best = measured(folder, root, rounds, used)
            title = (
                f"Ingest, {used} {'core' if used == 1 else 'cores'} and as many processes a side"
            )
            show(
                AS_PEERS, [side(name, records / best[name][0]) for name in SIDES], "records", title
            )
            for name, (seconds, steps) in best.items():
                said = ", ".join(f"{step} {part:.2f} s" for step, part in steps.items())
                print(f"- {name}: {seconds:.2f} s{': ' if said else ''}{said}")
            if used == 1:
                rerun(root, folder / "again", best["cuvee"][0])


def side(name: str, rate: float) -> Side:
    """Return a side's row."""
    return Side(name=name, rate=rate, bar=BARS.get(name))


def measured(
    folder: Path, root: Path, rounds: int, processes: int
) -> dict[str, tuple[float, dict[str, float]]]:
    """Return side -> (seconds, those of its steps) of its best round."""
    best: dict[str, tuple[float, dict[str, float]]] = {}
    target = folder / "target"
    for file in (root / "coco").iterdir():
        file.read_bytes()  # nobody is first to read from the disk
    for _ in range(rounds):
        for name, work in SIDES.items():
            shutil.rmtree(target, ignore_errors=True)
            steps, seconds = timed(partial(work, root, target, processes))
            if name not in best or seconds < best[name][0]:
                best[name] = seconds, steps
    shutil.rmtree(target)
    return best


def rerun(root: Path, target: Path, first: float) -> None:
    """Print what finding nothing new costs."""
    ours("decode", root, target, 1)
    job = Job(source="llava", root=root)
    found = [timed(lambda: survey(job, target)) for _ in range(3)]
    assert all(state.up_to_date for state, _ in found)
    seconds = median(seconds for _, seconds in found)
    print(
        f"- a rerun with nothing new: {seconds:.3f} s, {seconds / first:.1%} of the first run; "
        f"bar {RERUN:.0%}"
    )


def large_json(size: int) -> None:
    """Ingest one text-only LLaVA file of so many bytes; print the time and the peak memory."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "release"
        root.mkdir()
        written = number = 0
        with (root / "big.json").open("wb") as stream:
            stream.write(b"[")
            while written < size:
                entry = row(number, "")
                entry["conversations"] *= 10
                data = orjson.dumps({k: v for k, v in entry.items() if k != "image"})
                written += stream.write(b"," + data if number else data)
                number += 1
            stream.write(b"]")
        seconds = timed(lambda: subprocess.run(child(root, Path(name) / "c"), check=True))[1]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        print(
            f"{written / 1e9:.2f} GB of JSON, {number:,} records: {seconds:.0f} s, peak {peak:.2f} GiB"
        )


def child(root: Path, target: Path) -> list[str]:
    """Return the command that ingests a folder in a process of its own."""
    code = (
        "from pathlib import Path; from pipeline.ingest import ingest; from pipeline.jobs import Job\n"
        f"ingest(Job(source='llava', root=Path({str(root)!r})), Path({str(target)!r}))"
    )
    return [sys.executable, "-W", "ignore", "-c", code]


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--records", type=int, default=50_000)
    words.add_argument("--rounds", type=int, default=1)
    words.add_argument("--json", type=int, metavar="BYTES", help="measure memory on such a file")
    words.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    given = words.parse_args()
    if given.json:
        large_json(given.json)
    else:
        compare(given.records, given.rounds, given.cores)
