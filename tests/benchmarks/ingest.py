"""Ingest against writing the same records as a Hugging Face dataset and as WebDataset shards.

`python -m tests.benchmarks.ingest [--records N]` makes a LLaVA release of N records, five a picture of
about 30 KB, and writes it with each side, one process each, in turn. Ours also checks every picture to its
last byte, hashes it, and stores it once. `--json BYTES` measures the memory of a large file instead.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from catalog import Catalog
from pipeline.ingest import build, commit, cut, survey
from pipeline.jobs import Job
from pipeline.sources.base import read_rows
from tests.benchmarks.photos import photos

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


def ours(root: Path, target: Path) -> dict[str, float]:
    """Ingest; return the seconds of each step."""
    job, steps = Job(source="llava", root=root), {}
    Catalog.create(target)
    chunks, steps["read the annotations"] = timed(lambda: list(cut(job, target)))
    built, steps["pictures, checks, parts"] = timed(lambda: [build(c, target) for c in chunks])
    _, steps["commit"] = timed(lambda: commit(job, built, target))
    return steps


def hugging_face(root: Path, target: Path) -> dict[str, float]:
    """Write an Arrow dataset with the pictures inside."""
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "image": datasets.Image(),
            "conversations": [
                {"from": datasets.Value("string"), "value": datasets.Value("string")}
            ],
        }
    )

    def rows() -> Iterator[dict[str, Any]]:
        for entry in read_rows(root / "chat.json"):
            yield entry | {"image": {"bytes": (root / entry["image"]).read_bytes(), "path": None}}

    made, seconds = timed(
        lambda: datasets.Dataset.from_generator(
            rows, features=features, cache_dir=str(target / "cache")
        )
    )
    _, saving = timed(lambda: made.save_to_disk(str(target / "saved")))
    return {"from_generator": seconds, "save_to_disk": saving}


def webdataset(root: Path, target: Path) -> dict[str, float]:
    """Write tar shards."""
    import webdataset as wds

    def write() -> None:
        target.mkdir()
        with wds.ShardWriter(str(target / "%06d.tar"), maxcount=5000, verbose=0) as writer:
            for entry in read_rows(root / "chat.json"):
                data = (root / entry["image"]).read_bytes()
                writer.write({"__key__": entry["id"], "jpg": data, "json": orjson.dumps(entry)})

    _, seconds = timed(write)
    return {"ShardWriter": seconds}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work returns, and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


SIDES: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "cuvee": ours,
    "HF datasets": hugging_face,
    "WebDataset": webdataset,
}


def compare(records: int, rounds: int) -> None:
    """Print the rates of all sides, their ratios, where our time goes, and what a rerun costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = write_release(folder / "release", records)
        sizes = [file.stat().st_size for file in (root / "coco").iterdir()]
        print(
            f"{records:,} records, {len(sizes):,} pictures of {sum(sizes) / len(sizes):,.0f} bytes"
        )
        for module in ("datasets", "webdataset"):
            __import__(module)
        best: dict[str, tuple[float, float, dict[str, float]]] = {}
        for _ in range(rounds):
            for side, work in SIDES.items():
                target = folder / "target"
                shutil.rmtree(target, ignore_errors=True)
                cpu = time.process_time()
                steps, wall = timed(lambda work=work, target=target: work(root, target))  # type: ignore[misc]
                cpu = time.process_time() - cpu
                if side not in best or cpu < best[side][1]:
                    best[side] = (wall, cpu, steps)
        base = best["cuvee"]
        print(
            "\n| side | s | CPU s | records/s | cuvee is faster by (CPU) |"
            "\n| --- | ---: | ---: | ---: | ---: |"
        )
        for side, (wall, cpu, _) in best.items():
            ratios = "" if side == "cuvee" else f"{wall / base[0]:.2f} ({cpu / base[1]:.2f})"
            print(f"| {side} | {wall:.1f} | {cpu:.1f} | {records / wall:,.0f} | {ratios} |")
        print("\nwhere our time goes:", ", ".join(f"{k} {v:.1f} s" for k, v in base[2].items()))
        ours(root, folder / "again")
        state, seconds = timed(lambda: survey(Job(source="llava", root=root), folder / "again"))
        assert state.up_to_date
        print(
            f"a rerun with nothing new: {seconds:.2f} s, {seconds / base[0]:.1%} of the first run"
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
    words.add_argument("--core", type=int, help="run on this core alone")
    given = words.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    if given.json:
        large_json(given.json)
    else:
        compare(given.records, given.rounds)
