"""Any dataset of the Hugging Face library: saved folders, Parquet, Arrow or JSON Lines -> Record.

Formats: https://huggingface.co/docs/datasets. `save_to_disk` writes Arrow streams beside
`dataset_info.json`; the hub holds `data/train-00000-of-00003.parquet` and the like. Pictures stay where
they are and are read in place. With the option `hub`, an empty root is filled from the hub first.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import DataError, UserError
from catalog.record import ImageRef
from pipeline.sources.base import Bad, Item, Source, read_json, read_rows, relative, safe
from pipeline.sources.columns import Columns, Place, TableOptions, choose, options_of, records

TABLES = ("*.parquet", "*.arrow", "*.jsonl", "*.jsonl.gz", "*.jsonl.zst")
BATCH = 256
_SHARD = re.compile(r"-\d{3,}(-of-\d+)?(-[0-9a-f]+)?$|_\d+$|^\d+$")
_SPLITS = ("train", "validation", "val", "valid", "dev", "test")


def splits(options: TableOptions, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the splits of a saved dataset, or of tables named the hub's way."""
    if options.hub is not None:
        _fetch(options, root)
    saved = [file.parent for file in sorted([*root.glob("state.json"), *root.glob("*/state.json")])]
    if saved:
        return {
            "train" if folder == root else folder.name: tuple(_saved(folder)) for folder in saved
        }
    found: dict[str, tuple[Path, ...]] = {}
    for depth in ("", "*/", "*/*/"):
        for file in sorted(file for table in TABLES for file in root.glob(depth + table)):
            name = split_of(file.relative_to(root).parts)
            found[name] = (*found.get(name, ()), file)
    return found


def split_of(parts: tuple[str, ...]) -> str:
    """
    >>> split_of(("data", "train-00000-of-00003.parquet")), split_of(("ai2d", "test", "0000.parquet"))
    ('train', 'ai2d/test')
    """
    *folders, name = parts
    stem = _SHARD.sub("", name.split(".")[0])
    kept = [folder for folder in folders if folder != "data"]
    return "/".join([*kept, stem] if stem and stem not in kept else kept) or "train"


def _saved(folder: Path) -> Iterator[Path]:
    state = read_json(folder / "state.json")
    if not isinstance(state, dict) or not isinstance(state.get("_data_files"), list):
        raise DataError("no list '_data_files'", file=folder / "state.json", fix="save it again")
    if state.get("_indices_data_files"):
        raise DataError(
            "rows are chosen by an index file",
            file=folder / "state.json",
            fix="call flatten_indices() before save_to_disk()",
        )
    for entry in state["_data_files"]:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or "/" in name or "\\" in name:
            raise DataError(
                f"a data file {name!r:.80}", file=folder / "state.json", fix="save it again"
            )
        yield folder / name


def _fetch(options: TableOptions, root: Path) -> None:
    if any(root.iterdir()):
        return
    import datasets

    assert options.hub is not None
    try:
        found = datasets.load_dataset(options.hub, options.config, revision=options.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{options.hub}: cannot be loaded: {error}",
            fix="check its name, config and the network",
        ) from error
    found.save_to_disk(root)


def read(
    options: TableOptions, source: str, root: Path, split: str, files: tuple[Path, ...]
) -> Iterator[Item]:
    """Yield one record a row, in file order."""
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        if file.suffix in (".parquet", ".arrow"):
            yield from records(
                source,
                split,
                name,
                table_rows(file, options.columns),
                options,
                partial(cells, root, file),
                license="as its card says",
                labels=labels_of(file),
                seen=seen,
            )
        else:
            yield from records(
                source,
                split,
                name,
                read_rows(file),
                options,
                partial(cells, root, file),
                license="as its card says",
                seen=seen,
            )


def table_rows(file: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet or Arrow file; the bytes of pictures are only said to be there.

    Raises:
        DataError: the file is broken.
    """
    try:
        for batch in _batches(file):
            pictures = set(choose(columns, dict.fromkeys(batch.schema.names)).get("images", ()))
            light = [
                _lighten(column) if name in pictures or _is_image(column.type) else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield from pa.RecordBatch.from_arrays(light, batch.schema.names).to_pylist()
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        if isinstance(error, Bad):
            raise DataError(error.message, file=file, fix="name a column that it has") from error
        raise DataError(
            f"no whole table: {error}", file=file, fix="download the file again"
        ) from error


def _batches(file: Path) -> Iterator[Any]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=BATCH)
        return
    with pa.memory_map(str(file)) as mapped:
        magic = mapped.read(6)
        mapped.seek(0)
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            yield from pa.ipc.open_stream(mapped)


def _is_image(kind: Any) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_image(kind.value_type)
    return pa.types.is_struct(kind) and {f.name for f in kind} == {"bytes", "path"}


def _lighten(column: Any) -> Any:
    """Return a column with True in the place of bytes."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        there = column.is_valid()
        return pa.compute.if_else(there, there, None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        inner = _lighten(column.values)
        return make.from_arrays(column.offsets, inner, mask=column.is_null())
    if pa.types.is_struct(kind) and kind.num_fields:
        fields = [_lighten(column.field(i)) for i in range(kind.num_fields)]
        names = [f.name for f in kind]
        return pa.StructArray.from_arrays(fields, names, mask=column.is_null())
    return column


def cells(root: Path, file: Path, row: int) -> Place:
    return partial(_place, root, file, row)


def _place(root: Path, file: Path, row: int, column: str, value: Any) -> list[ImageRef]:
    if isinstance(value, list):
        return [
            ref
            for number, item in enumerate(value)
            for ref in _place(root, file, row, f"{column}.{number}", item)
        ]
    inside = ImageRef(path=relative(file, root), member=f"{row}:{column}")
    if value is None or value == "":
        return []
    if value is True:
        return [inside]
    if isinstance(value, dict):
        if value.get("bytes"):
            return [ImageRef(path=inside.path, member=f"{inside.member}.bytes")]
        return _place(root, file, row, column, value.get("path"))
    if isinstance(value, str):
        if value.startswith("data:") or len(value) > 1024:
            return [inside]
        beside = (file.parent / safe(value)).relative_to(root).as_posix()
        return [ImageRef(path=beside if (root / beside).exists() else value)]
    raise Bad("wrong_type", f"{column!r} is {type(value).__name__}, not a picture")


def labels_of(file: Path) -> Mapping[str, list[str]]:
    """Return column -> names of its classes, where the file or its folder describes them."""
    features: Any = {}
    try:
        if file.suffix == ".parquet":
            about = (pq.read_schema(file).metadata or {}).get(b"huggingface")
            features = orjson.loads(about)["info"]["features"] if about else {}
        elif (beside := file.with_name("dataset_info.json")).exists():
            features = read_json(beside)["features"]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, DataError):
        return {}  # without a readable description, numbers stay numbers
    return {
        name: feature["names"]
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }


def _source(options: TableOptions) -> Source:
    return Source(
        name="hf",
        title="Any Hugging Face dataset",
        family="instruction",
        files=("<split>/state.json of save_to_disk", "or *.parquet, *.arrow, *.jsonl"),
        splits=partial(splits, options),
        reader=partial(read, options, "hf"),
        license=options.license or "as its card says",
        homepage="https://huggingface.co/docs/datasets",
        configure=lambda given: _source(
            options_of("hf", given, "task", "hub", "config", "revision")
        ),
    )


HF = _source(TableOptions())
