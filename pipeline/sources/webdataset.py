"""Any set of WebDataset shards -> Record; members are read in place.

Format: https://github.com/webdataset/webdataset. Neighbours that share a key are a sample: its pictures,
`json` with named fields, and texts (`txt`, `cls`, ...) named by their extension, also packed with gzip.
"""

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from catalog.record import ImageRef
from pipeline.limits import MAX_BYTES
from pipeline.sources.base import Bad, Item, Source, relative
from pipeline.sources.columns import TableOptions, options_of, plain, records
from pipeline.sources.hf import split_of
from pipeline.sources.shards import PICTURES, Sample, tar_samples


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the shards by split: what their names and folders share."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted([*root.glob("*.tar*"), *root.glob("*/*.tar*")]):
        if file.is_file():
            name = split_of(file.relative_to(root).parts)
            found[name] = (*found.get(name, ()), file)
    return found


def read(options: TableOptions, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a sample, in the order of the shards."""
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        yield from records(
            "webdataset",
            split,
            name,
            (_row(sample) for sample in tar_samples(file, _is_text)),
            options,
            lambda _, name=name: partial(_place, name),  # type: ignore[misc]
            license="as its publisher says",
            seen=seen,
        )


def _is_text(extension: str) -> bool:
    return extension.lower().rpartition(".")[2] not in PICTURES


def _row(sample: Sample) -> dict[str, Any] | Bad:
    """Return the sample as a row: named fields of `json`, the other members by their extension."""
    if len({extension for extension, _ in sample.names}) < len(sample.names):
        return Bad("duplicate_member", f"an extension occurs twice under {sample.key!r}")
    row: dict[str, Any] = {"__key__": sample.key}
    for extension, data in sample.texts.items():
        if extension.lower().endswith(".gz"):
            extension = extension[:-3]
            if not _is_text(extension):
                return Bad("packed_picture", f"{sample.key}.{extension} is packed with gzip")
            try:
                data = _unpacked(data)
            except zlib.error as error:
                return Bad("damaged_member", f"{sample.key}.{extension} does not unpack: {error}")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            row[extension] = plain(data)
            continue
        if extension.rpartition(".")[2] != "json":
            row[extension] = text
            continue
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return Bad("broken_json", f"{sample.key}.{extension}: {error}")
        row |= value if isinstance(value, dict) else {extension: value}
    pictures = [name for extension, name in sample.names if not _is_text(extension)]
    return row | ({"images": pictures} if pictures else {})


def _unpacked(data: bytes) -> bytes:
    """Return what a member packed with gzip holds.

    Raises:
        zlib.error: it is damaged, or holds more than any member may.
    """
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = unpacking.decompress(data, MAX_BYTES)
    if not unpacking.eof:
        raise zlib.error("cut off, or too large")
    return found


def _place(file: str, column: str, value: Any) -> list[ImageRef]:
    members = value if isinstance(value, list) else [value]
    if not all(isinstance(member, str) for member in members):
        raise Bad("wrong_type", f"{column!r} names no members of the shard")
    return [ImageRef(path=file, member=member) for member in members]


def _source(options: TableOptions) -> Source:
    return Source(
        name="webdataset",
        title="Any WebDataset shards",
        family="instruction",
        files=("*.tar, or <split>/*.tar: jpg, json, txt, cls, …",),
        splits=splits,
        reader=partial(read, options),
        license=options.license or "as its publisher says",
        homepage="https://github.com/webdataset/webdataset",
        configure=lambda given: _source(options_of("webdataset", given, "task")),
    )


WEBDATASET = _source(TableOptions())
