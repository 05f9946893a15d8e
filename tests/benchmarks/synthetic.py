"""Real catalogs of made-up samples, written in bulk: for measuring plans of millions of draws.

Samples and encodings lie in ordinary Delta tables, with the columns and the rows a file that ingest
writes. Token ids are left empty: a plan reads their numbers, never the ids.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog import Catalog
from catalog.schema import ENCODINGS, SAMPLES
from pipeline.encode import EncoderConfig, encode
from pipeline.ingest import CHUNK_RECORDS
from tests.tokenizer import make_tokenizer

HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), np.uint8).reshape(256, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A made-up source: its part of the samples, pictures a sample, and text."""

    name: str
    family: str
    part: float
    pictures: tuple[int, ...]
    text: int
    """Mean of the text tokens, which are spread log-normally."""


KINDS = (
    Kind(name="captions", family="vqa", part=0.20, pictures=(1,), text=110),
    Kind(name="questions", family="vqa", part=0.28, pictures=(1,), text=50),
    Kind(name="pages", family="ocr", part=0.17, pictures=(1,), text=340),
    Kind(name="boxes", family="region", part=0.12, pictures=(1,), text=70),
    Kind(name="albums", family="instruction", part=0.05, pictures=(2, 3, 4), text=300),
    Kind(name="chats", family="text", part=0.18, pictures=(0,), text=1000),
)
SIZES = np.array(
    [(640, 480), (480, 640), (512, 512), (1024, 768), (448, 448), (1280, 720), (800, 600)], np.int32
)


def recipe(folder: Path, **changes: object) -> str:
    """Write the recipe that draws all of them once; return its path."""
    file = folder / "recipe.yaml"
    file.write_text(
        "name: synthetic\nunit: all_tokens\nbudget: {epochs: 1}\nsources:\n"
        + "".join(f"  - {{source: {kind.name}}}\n" for kind in KINDS)
        + "encoder: {tokenizer: tok}\n"
        "image: {kind: slices, size: 448, tokens: 256, max_slices: 6}\n"
        "packing: {tokens: 8192, tiles: 32, packs_per_step: 64}\n"
        + "".join(f"{name}: {value}\n" for name, value in changes.items())
    )
    return str(file)


def write_catalog(folder: Path, samples: int, rows: int = CHUNK_RECORDS, seed: int = 0) -> Catalog:
    """Write a catalog of so many samples, and a tokenizer and a recipe beside it."""
    random = np.random.default_rng(seed)
    tokenizer = make_tokenizer(folder / "tok")
    recipe(folder)
    catalog = Catalog.create(folder / "catalog")
    encoder = encode(catalog, EncoderConfig(tokenizer=tokenizer))
    staging = folder / "catalog" / ".staging"
    staging.mkdir(exist_ok=True)
    for kind in KINDS:
        count = round(samples * kind.part)
        names = [f"{kind.name}-{i:06}.parquet" for i in range(-(-count // rows))]
        staged, encoded = [], []
        for number, name in enumerate(names):
            some = min(rows, count - number * rows)
            ids = _ids(random, some)
            pictures = random.choice(kind.pictures, some).astype(np.int32)
            sizes = SIZES[random.integers(len(SIZES), size=int(pictures.sum()))]
            text = np.exp(random.normal(np.log(kind.text) - 0.18, 0.6, some)).astype(np.int32) + 8
            staged.append(staging / name)
            _write(staged[-1], SAMPLES, some, _sample_columns(kind, ids, pictures, sizes))
            encoded.append(staging / f"e-{name}")
            _write(encoded[-1], ENCODINGS, some, _encoding_columns(ids, pictures, sizes, text))
        catalog = catalog.commit_source(kind.name, samples=staged)
        for file in staged:
            file.unlink()
        moved = [file.rename(file.with_name(file.name[2:])) for file in encoded]
        catalog.commit_encodings(encoder, kind.name, moved)
    return Catalog.open(folder / "catalog")


def _ids(random: np.random.Generator, count: int) -> pa.Array:
    """Return random hashes as 64 hexadecimal digits."""
    digits = HEX[random.integers(256, size=(count, 32))].tobytes()
    ends = np.arange(count + 1, dtype=np.int32) * 64
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(digits))


def _lists(values: pa.Array, counts: NDArray[np.int32]) -> pa.Array:
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(counts)]).astype("i4"), values)


def _pictures(
    pictures: NDArray[np.int32], sizes: NDArray[np.int32], ids: pa.Array
) -> dict[str, pa.Array]:
    shown = ids.take(pa.array(np.repeat(np.arange(len(ids)), pictures)))
    return {
        "n_images": pa.array(pictures),
        "image_ids": _lists(shown, pictures),
        "widths": _lists(pa.array(sizes[:, 0]), pictures),
        "heights": _lists(pa.array(sizes[:, 1]), pictures),
    }


def _sample_columns(
    kind: Kind, ids: pa.Array, pictures: NDArray[np.int32], sizes: NDArray[np.int32]
) -> dict[str, pa.Array]:
    count = len(ids)
    return {
        "sample_id": ids,
        "content_id": ids,
        "family": pa.repeat(kind.family, count),
        "split": pa.repeat("train", count),
        "native_id": ids,
        "task": pa.repeat("vqa", count),
        "license": pa.repeat("CC-BY-4.0", count),
        "file": pa.repeat("train.json", count),
    } | _pictures(pictures, sizes, ids)


def _encoding_columns(
    ids: pa.Array,
    pictures: NDArray[np.int32],
    sizes: NDArray[np.int32],
    text: NDArray[np.int32],
) -> dict[str, pa.Array]:
    count = len(ids)
    return {
        "sample_id": ids,
        "split": pa.repeat("train", count),
        "n_tokens": pa.array(text),
        "n_loss": pa.array(np.maximum(text // 3, 1)),
        "size": pa.repeat(pa.scalar(0, pa.int32()), count),
        "data": pa.repeat(pa.scalar(b"", pa.binary()), count),
    } | _pictures(pictures, sizes, ids)


def _write(file: Path, schema: pa.Schema, count: int, columns: dict[str, pa.Array]) -> None:
    arrays = [columns.get(f.name, pa.nulls(count, f.type)).cast(f.type) for f in schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, compression="zstd")
