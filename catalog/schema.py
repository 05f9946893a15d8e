"""The tables' columns, and records to and from rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson
import pyarrow as pa

from catalog.record import ImageRef, Message, Record, Refusal, Region

SCHEMA_VERSION = 1
"""Raise when an older program could not read the tables any more."""

_REGION = pa.struct(
    [
        ("label", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("image", pa.int32()),
        ("span", pa.list_(pa.int32())),
        ("polygons", pa.list_(pa.list_(pa.float64()))),
        ("rle", pa.string()),
        ("extra", pa.string()),
    ]
)

SAMPLES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("content_id", pa.string()),
        ("family", pa.string()),
        ("split", pa.string()),
        ("native_id", pa.string()),
        ("task", pa.string()),
        ("n_images", pa.int32()),
        ("image_ids", pa.list_(pa.string())),
        ("widths", pa.list_(pa.int32())),
        ("heights", pa.list_(pa.int32())),
        ("images", pa.list_(pa.struct([("path", pa.string()), ("member", pa.string())]))),
        (
            "messages",
            pa.list_(
                pa.struct([("role", pa.string()), ("content", pa.string()), ("loss", pa.bool_())])
            ),
        ),
        ("answers", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("regions", pa.list_(_REGION)),
        ("license", pa.string()),
        ("extra", pa.string()),
        ("file", pa.string()),
    ]
)
"""Partitioned by `source`, which is therefore not in the files. Sizes are as displayed, in pixels."""

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int8()),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)

REFUSALS = pa.schema(
    [(name, pa.string()) for name in ("split", "reason", "file", "record", "message")]
)

ENCODINGS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("n_tokens", pa.int32()),
        pa.field("n_loss", pa.int32()),
        pa.field("n_images", pa.int32()),
        pa.field("widths", pa.list_(pa.int32())),
        pa.field("heights", pa.list_(pa.int32())),
        pa.field("image_ids", pa.list_(pa.string())),
        pa.field("members", pa.list_(pa.string())),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)
"""`data` of a row: n token ids as int32, little-endian, then n bytes of loss mask; -1 marks a picture.
`members` are the samples of a conversation that was merged of several, null elsewhere."""


class Measured(Protocol):
    """A decoded picture, as `pipeline.checks` measures it."""

    @property
    def format(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def orientation(self) -> int: ...


def sample_table(
    records: Sequence[Record],
    *,
    image_ids: Sequence[Sequence[str]],
    sizes: Sequence[Sequence[tuple[int, int]]],
    family: str,
) -> pa.Table:
    """Return the rows of records whose pictures have these ids and displayed (width, height)."""
    rows = [
        {
            "sample_id": record.sample_id,
            "content_id": record.content_id,
            "family": family,
            "split": record.split,
            "native_id": record.native_id,
            "task": record.task,
            "n_images": len(ids),
            "image_ids": list(ids),
            "widths": [width for width, _ in size],
            "heights": [height for _, height in size],
            "images": [{"path": ref.path, "member": ref.member} for ref in record.images],
            "messages": [
                {"role": message.role, "content": message.content, "loss": message.loss}
                for message in record.messages
            ],
            "answers": None if record.answers is None else list(record.answers),
            "choices": list(record.choices),
            "answer_index": record.answer_index,
            "regions": [_region_row(region) for region in record.regions],
            "license": record.license,
            "extra": _json(record.extra),
            "file": record.file,
        }
        for record, ids, size in zip(records, image_ids, sizes, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def _region_row(region: Region) -> dict[str, Any]:
    return {
        "label": region.label,
        "box": None if region.box is None else list(region.box),
        "image": region.image,
        "span": None if region.span is None else list(region.span),
        "polygons": [list(polygon) for polygon in region.polygons],
        "rle": region.rle,
        "extra": _json(region.extra),
    }


def _json(values: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(values), option=orjson.OPT_NON_STR_KEYS).decode()


def record_of(row: Mapping[str, Any]) -> Record:
    """Return the record of a samples row (with its `source`), the inverse of `sample_table`."""
    return Record(
        source=row["source"],
        split=row["split"],
        native_id=row["native_id"],
        task=row["task"],
        images=tuple(ImageRef(**image) for image in row["images"]),
        messages=tuple(Message(**message) for message in row["messages"]),
        answers=None if row["answers"] is None else tuple(row["answers"]),
        choices=tuple(row["choices"]),
        answer_index=row["answer_index"],
        regions=tuple(_region(region) for region in row["regions"]),
        license=row["license"],
        extra=orjson.loads(row["extra"]),
        file=row["file"],
    )


def _region(row: Mapping[str, Any]) -> Region:
    return Region(
        label=row["label"],
        box=None
        if row["box"] is None
        else (row["box"][0], row["box"][1], row["box"][2], row["box"][3]),
        image=row["image"],
        span=None if row["span"] is None else (row["span"][0], row["span"][1]),
        polygons=tuple(tuple(polygon) for polygon in row["polygons"]),
        rle=row["rle"],
        extra=orjson.loads(row["extra"]),
    )


def image_table(pictures: Mapping[str, tuple[Measured, bytes]]) -> pa.Table:
    """Return the rows of distinct pictures: id -> (what was measured, bytes)."""
    measured = [picture for picture, _ in pictures.values()]
    return pa.table(
        [
            pa.array(list(pictures), pa.string()),
            pa.array([picture.format for picture in measured], pa.string()),
            pa.array([picture.width for picture in measured], pa.int32()),
            pa.array([picture.height for picture in measured], pa.int32()),
            pa.array([picture.orientation for picture in measured], pa.int8()),
            pa.array([len(data) for _, data in pictures.values()], pa.int32()),
            pa.array([data for _, data in pictures.values()], pa.binary()),
        ],
        schema=IMAGES,
    )


def refusal_table(refusals: Iterable[Refusal]) -> pa.Table:
    """Return the rows of refusals."""
    return pa.Table.from_pylist(
        [
            {
                "split": refusal.split,
                "reason": refusal.reason,
                "file": refusal.file,
                "record": refusal.record,
                # The text quotes bad input: it may hold what no UTF-8 file can.
                "message": refusal.message.encode(errors="replace").decode(),
            }
            for refusal in refusals
        ],
        schema=REFUSALS,
    )
