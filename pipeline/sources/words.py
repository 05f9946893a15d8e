"""Text in a picture: words or lines with their outlines -> regions, and the record of the whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.grids import Box
from pipeline.sources.base import Bad
from pipeline.sources.regions import numbers


def outline(points: Any) -> tuple[float, ...]:
    """Return a polygon as x0, y0, x1, y1, ... from either official form: flat, or pairs.

    >>> outline([[1, 2], [3, 4]]), outline([1, 2, 3, 4])
    ((1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0))

    Raises:
        Bad: it is no list of points.
    """
    if isinstance(points, list) and points and all(isinstance(p, list | tuple) for p in points):
        if any(len(point) != 2 for point in points):
            raise Bad("bad_polygon", f"a point of {points!r:.80} has not two coordinates")
        points = [value for point in points for value in point]
    flat = numbers(points, "points")
    if len(flat) < 4 or len(flat) % 2:
        raise Bad("bad_polygon", f"{len(flat)} coordinates make no polygon")
    return flat


def around(polygon: Sequence[float]) -> Box:
    """Return the smallest box around a polygon.

    >>> around((1, 8, 5, 2, 3, 9))
    (1, 2, 5, 9)
    """
    return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])


def word(
    label: str,
    *,
    polygon: tuple[float, ...] | None = None,
    box: Box | None = None,
    ignore: bool = False,
    extra: Mapping[str, Any],
) -> Region:
    """Return the region of a word, line or character; `ignore` marks text that cannot be read."""
    return Region(
        label=label,
        box=box or (around(polygon) if polygon else None),
        polygons=(polygon,) if polygon else (),
        extra={**extra, "ignore": True} if ignore else dict(extra),
    )


def transcript(regions: Sequence[Region]) -> str | None:
    """Return the readable text of a picture, a line for each region; None if there is none."""
    lines = [r.label for r in regions if r.label.strip() and not r.extra.get("ignore")]
    return "\n".join(lines) or None


def page(
    *,
    source: str,
    split: str,
    native_id: str,
    image: ImageRef,
    text: str | None,
    regions: Sequence[Region],
    license: str,
    extra: Mapping[str, Any],
    file: str,
) -> Record:
    """Return the record of a picture and the text in it; None: there is none, or it is hidden."""
    messages = [Message(role="user", content=IMAGE)]
    if text is not None:
        messages.append(Message(role="assistant", content=text))
    return Record(
        source=source,
        split=split,
        native_id=native_id,
        task="ocr",
        images=(image,),
        messages=tuple(messages),
        answers=None if text is None else (text,),
        regions=tuple(regions),
        license=license,
        extra=extra,
        file=file,
    )
