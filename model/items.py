"""Judged questions as Parquet: what was asked, said and true, and how it was scored; one file a source.

`pl.scan_parquet("RUN/eval/*/items/*.parquet")` is one table of all that a run was asked.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from catalog.errors import DataError

SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "split": pl.String(),
        "sample_id": pl.String(),
        "native_id": pl.String(),
        "metric": pl.String(),
        "question": pl.String(),
        "prediction": pl.String(),
        "references": pl.List(pl.String()),
        "score": pl.Float64(),
        "image_ids": pl.List(pl.String()),
        "predicted_box": pl.List(pl.Float64()),
        "true_box": pl.List(pl.Float64()),
        "predicted_mask": pl.String(),
        "true_mask": pl.String(),
        "width": pl.Int64(),
        "height": pl.Int64(),
        "blind_answer": pl.String(),
        "blind_score": pl.Float64(),
        "majority_answer": pl.String(),
        "majority_score": pl.Float64(),
        "extra": pl.String(),
    }
)
"""`references` are as people read them, empty where they are hidden or a box. Boxes are x0, y0, x1, y1
in pixels of the first picture, `width` x `height`, and masks its run lengths, as COCO's JSON. A score is
None where nothing is known to compare with. `extra` is a JSON object: the metric's own reference, and
what else it takes."""


def write_items(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Write items whole or not at all; what has no column goes into `extra`."""
    rows = [
        {name: item.get(name) for name in SCHEMA}
        | {"extra": json.dumps({name: v for name, v in item.items() if name not in SCHEMA})}
        for item in items
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(staged)
    staged.replace(path)


def read_items(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file, what stands in `extra` beside its columns.

    Raises:
        DataError: the file is damaged, or no Parquet.
    """
    try:
        rows = pl.read_parquet(path).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise DataError(str(error), file=path, fix="write the Parquet file again") from error
    return [unfolded(row) for row in rows]


def unfolded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields of its JSON object `extra` beside the others, which go before.

    >>> unfolded({"score": 1.0, "extra": '{"reference": 2}'}), unfolded({"extra": "more"})
    ({'reference': 2, 'score': 1.0}, {'extra': 'more'})
    """
    try:
        more = json.loads(row.get("extra") or "")
    except (TypeError, ValueError):
        return row
    if not isinstance(more, dict):
        return row
    return more | {name: value for name, value in row.items() if name != "extra"}


def readable(reference: Any, choices: Sequence[str] | None = None) -> list[str]:
    """Return references as people read them.

    >>> readable(["cat", "cats"]), readable("4"), readable(1, ["kayak", "canoe"]), readable((0, 0, 9, 9))
    (['cat', 'cats'], ['4'], ['B. canoe'], [])
    """
    match reference:
        case str():
            return [reference]
        case int() if choices:
            return [f"{chr(ord('A') + reference)}. {choices[reference]}"]
        case [*texts] if all(isinstance(text, str) for text in texts):
            return list(texts)
        case _:
            return []
