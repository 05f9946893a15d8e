"""The same samples stored by each reader's own writer, and read in random order by its own reader.

Every side hands each of a sample's two values to `use`, and is asked in the quickest way that its
interface has.
"""

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

Sample = tuple[bytes, bytes]
"""A picture, and its text's token ids and loss mask."""
BATCH = 64
Order = Sequence[int]
Use = Callable[[Any], int]
"""What is done with each value."""
Read = Callable[[Use], int]
"""Reads all samples; returns the sum of what `use` returned."""


def batches(order: Order, size: int = BATCH) -> list[list[int]]:
    """Cut the order into runs of `size`."""
    return [list(order[first : first + size]) for first in range(0, len(order), size)]


def in_memory(samples: Sequence[Sample], order: Order) -> Read:
    held = {str(number): sample for number, sample in enumerate(samples)}
    keys = [str(number) for number in order]

    def read(use: Use) -> int:
        total = 0
        for key in keys:
            picture, text = held[key]
            total += use(bytearray(picture)) + use(bytearray(text))
        return total

    return read


def hf_datasets(folder: Path, samples: Sequence[Sample], order: Order, *, batch: int) -> Read:
    import datasets

    datasets.disable_progress_bars()
    columns = {"image": [a for a, _ in samples], "text": [b for _, b in samples]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder / f"hf{batch}"))
    stored = datasets.load_from_disk(str(folder / f"hf{batch}"))

    def single(use: Use) -> int:
        total = 0
        for number in order:
            sample = stored[number]
            total += use(sample["image"]) + use(sample["text"])
        return total

    def many(use: Use) -> int:
        total = 0
        for some in batches(order, batch):
            found = stored[some]
            total += sum(map(use, found["image"])) + sum(map(use, found["text"]))
        return total

    return single if batch == 1 else many


def mosaic(folder: Path, samples: Sequence[Sample], order: Order) -> Read:
    stand_in_for_torchvision()
    streaming = importlib.import_module("streaming")
    columns = {"image": "bytes", "text": "bytes"}
    with streaming.MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for image, text in samples:
            writer.write({"image": image, "text": text})
    streaming.base.util.clean_stale_shared_memory()
    stored = streaming.StreamingDataset(local=str(folder / "mds"), batch_size=1, shuffle=False)

    def read(use: Use) -> int:
        total = 0
        for number in order:
            sample = stored[number]
            total += use(sample["image"]) + use(sample["text"])
        return total

    return read


def stand_in_for_torchvision() -> None:
    """MosaicML's package imports torchvision for vision data sets that are not used here."""
    # It also imports this, which looks for torchvision by itself.
    importlib.import_module("transformers.feature_extraction_utils")
    try:
        importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError):
        names = ("datasets", "transforms", "transforms.functional")
        for name in ("torchvision", *(f"torchvision.{each}" for each in names)):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        vars(sys.modules["torchvision.datasets"]).update(VisionDataset=object, CIFAR10=object)
        vars(sys.modules["torchvision.transforms.functional"]).update(to_tensor=None)


def lit_data(folder: Path, samples: Sequence[Sample], order: Order) -> Read:
    writers = importlib.import_module("litdata.streaming.writer")
    litdata = importlib.import_module("litdata")
    writer = writers.BinaryWriter(str(folder / "lit"), chunk_bytes="64MB")
    for number, (image, text) in enumerate(samples):
        writer[number] = {"image": image, "text": text}
    writer.done()
    writer.merge()
    # Its random order shuffles chunks, and samples within each.
    stored = litdata.StreamingDataset(str(folder / "lit"), shuffle=True)
    return lambda use: sum(use(sample["image"]) + use(sample["text"]) for sample in stored)


def array_record(folder: Path, samples: Sequence[Sample], order: Order) -> Read:
    module = importlib.import_module("array_record.python.array_record_module")
    file = str(folder / "all.array_record")
    writer = module.ArrayRecordWriter(file, "group_size:1")
    for image, text in samples:
        writer.write(len(text).to_bytes(4, "little") + text + image)
    writer.close()
    reader = module.ArrayRecordReader(file, "readahead_buffer_size:0")

    def read(use: Use) -> int:
        total = 0
        for some in batches(order):
            for record in reader.read(some):
                end = 4 + int.from_bytes(record[:4], "little")
                whole = memoryview(record)
                total += use(whole[4:end]) + use(whole[end:])
        return total

    return read


def lance(folder: Path, samples: Sequence[Sample], order: Order) -> Read:
    module = importlib.import_module("lance")
    table = pa.table({"image": [a for a, _ in samples], "text": [b for _, b in samples]})
    stored = module.write_dataset(table, str(folder / "all.lance"))

    def read(use: Use) -> int:
        total = 0
        for some in batches(order):
            taken = stored.take(some)
            total += sum(map(use, taken["image"].to_pylist()))
            total += sum(map(use, taken["text"].to_pylist()))
        return total

    return read


def web_dataset(folder: Path, samples: Sequence[Sample], order: Order) -> Read:
    import webdataset

    shard = str(folder / "all.tar")
    with webdataset.TarWriter(shard) as writer:
        for number, (image, text) in enumerate(samples):
            writer.write({"__key__": f"{number:08}", "jpg": image, "bin": text})

    def read(use: Use) -> int:
        stream = webdataset.WebDataset(shard, shardshuffle=False).shuffle(1000)
        return sum(use(sample["jpg"]) + use(sample["bin"]) for sample in stream)

    return read


Peer = Callable[[Path, Sequence[Sample], Order], Read]
PEERS: dict[str, tuple[Peer, str, float | None]] = {
    "LitData, its chunk shuffle": (lit_data, "litdata", 1.5),
    "HF datasets, map-style, one by one": (
        lambda folder, samples, order: hf_datasets(folder, samples, order, batch=1),
        "datasets",
        5,
    ),
    f"HF datasets, map-style, lists of {BATCH}": (
        lambda folder, samples, order: hf_datasets(folder, samples, order, batch=BATCH),
        "datasets",
        None,
    ),
    "MosaicML Streaming, random access": (mosaic, "mosaicml-streaming", 5),
    f"ArrayRecord, group size 1, lists of {BATCH}": (array_record, "array_record", 5),
    f"Lance, take({BATCH})": (lance, "pylance", 8),
    "WebDataset, shuffle(1000)": (web_dataset, "webdataset", 20),
}
"""Name -> reader, its distribution, and by how much we mean to be faster."""


def installed(distribution: str) -> str | None:
    """Return a distribution's version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def stored(folder: Path, samples: Sequence[Sample], order: Order) -> dict[str, Read]:
    """Store the samples with every reader that is installed."""
    return {
        name: peer(folder, samples, order)
        for name, (peer, distribution, _) in PEERS.items()
        if installed(distribution)
    }
