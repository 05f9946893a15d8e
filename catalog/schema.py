"""The tables' columns, and records to and from rows."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import accumulate
from operator import attrgetter
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

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


PICTURES = ("n_images", "image_ids", "widths", "heights")
"""Columns of samples that are known only once the pictures have been read."""


def sample_table(
    records: Sequence[Record],
    *,
    image_ids: Sequence[Sequence[str]],
    sizes: Sequence[Sequence[tuple[int, int]]],
    family: str,
) -> pa.Table:
    """Return the rows of records whose pictures have these ids and displayed (width, height)."""
    rows = sample_rows(records, [record.content_id for record in records], family=family)
    return with_pictures(rows, image_ids, sizes)


def sample_rows(records: Sequence[Record], content_ids: Sequence[str], *, family: str) -> pa.Table:
    """Return the rows of records without the columns `PICTURES`."""
    columns = {
        "sample_id": [record.sample_id for record in records],
        "content_id": content_ids,
        "family": [family] * len(records),
        "images": _images([record.images for record in records]),
        "messages": _messages([record.messages for record in records]),
        "regions": _regions([record.regions for record in records]),
        "extra": [_json(record.extra) for record in records],
    }
    return pa.table(
        [
            pa.array(
                columns[field.name]
                if field.name in columns
                else list(map(attrgetter(field.name), records)),
                field.type,
            )
            for field in SAMPLES
            if field.name not in PICTURES
        ],
        schema=pa.schema([field for field in SAMPLES if field.name not in PICTURES]),
    )


def with_pictures(
    rows: pa.Table,
    image_ids: Sequence[Sequence[str]],
    sizes: Sequence[Sequence[tuple[int, int]]],
) -> pa.Table:
    """Return whole rows of samples: those of `sample_rows`, and what their pictures are."""
    flat = [size for several in sizes for size in several]
    found = {
        "n_images": pa.array([len(ids) for ids in image_ids], pa.int32()),
        "image_ids": _lists("image_ids", image_ids, [i for ids in image_ids for i in ids]),
        "widths": _lists("widths", sizes, [width for width, _ in flat]),
        "heights": _lists("heights", sizes, [height for _, height in flat]),
    }
    return pa.table(
        [found[name] if name in found else rows[name] for name in SAMPLES.names], schema=SAMPLES
    )


def _lists(
    name: str, several: Sequence[Sized], flat: Sequence[Any] | Sequence[Sequence[Any]]
) -> pa.Array:
    """Return a column of lists from its values one after the other; of structs, field by field.

    Twice as fast as what Arrow makes of a dict for each struct.
    """
    kind = SAMPLES.field(name).type
    offsets = pa.array(accumulate(map(len, several), initial=0), pa.int32())
    value = kind.value_type
    values = (
        pa.StructArray.from_arrays(
            [pa.array(part, field.type) for part, field in zip(flat, value, strict=True)],
            fields=list(value),
        )
        if pa.types.is_struct(value)
        else pa.array(flat, value)
    )
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def _images(several: Sequence[Sequence[ImageRef]]) -> pa.Array:
    flat = [ref for refs in several for ref in refs]
    return _lists("images", several, [[ref.path for ref in flat], [ref.member for ref in flat]])


def _messages(several: Sequence[Sequence[Message]]) -> pa.Array:
    flat = [message for messages in several for message in messages]
    fields = [
        [message.role for message in flat],
        [message.content for message in flat],
        [message.loss for message in flat],
    ]
    return _lists("messages", several, fields)


def _regions(several: Sequence[Sequence[Region]]) -> pa.Array:
    flat = [region for regions in several for region in regions]
    fields = [
        [region.label for region in flat],
        [region.box for region in flat],
        [region.image for region in flat],
        [region.span for region in flat],
        [region.polygons for region in flat],
        [region.rle for region in flat],
        [_json(region.extra) for region in flat],
    ]
    return _lists("regions", several, fields)


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
    data = pa.array([data for _, data in pictures.values()], pa.binary())
    return image_rows(list(pictures), [picture for picture, _ in pictures.values()], data)


def image_rows(ids: Sequence[str], measured: Sequence[Measured], data: pa.Array) -> pa.Table:
    """Return the rows of distinct pictures from their ids, measures and a column of their bytes."""
    return pa.table(
        [
            pa.array(ids, pa.string()),
            pa.array([picture.format for picture in measured], pa.string()),
            pa.array([picture.width for picture in measured], pa.int32()),
            pa.array([picture.height for picture in measured], pa.int32()),
            pa.array([picture.orientation for picture in measured], pa.int8()),
            pc.binary_length(data),
            data,
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
