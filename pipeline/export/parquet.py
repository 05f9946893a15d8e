"""Parquet as Hugging Face's libraries read it: chat messages, and pictures as `Image` features.

Format: https://huggingface.co/docs/datasets/about_dataset_features
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.rows import Drawn
from pipeline.export.webdataset import described
from pipeline.plan import Plan

_TEXT = ("sample_id", "source", "split", "native_id", "file", "license")
_NUMBERS = ("step", "pack", "tokens")
SCHEMA = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.int64()) for name in _NUMBERS),
    ]
)


def _features() -> dict[str, object]:
    text = {"dtype": "string", "_type": "Value"}
    return {
        "messages": {"_type": "List", "feature": {"role": text, "content": text}},
        "images": {"_type": "List", "feature": {"_type": "Image"}},
        **dict.fromkeys(_TEXT, text),
        **{name: {"dtype": "int64", "_type": "Value"} for name in _NUMBERS},
    }


def write(file: Path, folder: Path, rows: list[Drawn]) -> None:
    """Write a shard."""
    values = [
        described(row) | {"images": [{"bytes": bytes(data), "path": n} for n, data in row.pictures]}
        for row in rows
    ]
    features = json.dumps({"info": {"features": _features()}})
    schema = SCHEMA.with_metadata({"huggingface": features})
    pq.write_table(pa.Table.from_pylist(values, schema=schema), file, row_group_size=500)


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Nothing describes all shards."""
