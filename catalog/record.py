"""One official item, lossless: Record, or Refusal where it cannot be read."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Role = Literal["system", "user", "assistant", "tool"]
Task = Literal["vqa", "ocr", "grounding", "caption", "conversation", "text"]

IMAGE = "<image>"
"""Marks in a message where the record's next picture stands (only if the record has pictures)."""
REGION_MARK = re.compile(r"<region:(\d{1,6}(?:,\d{1,6})*)>")
"""Marks in a message where the boxes of regions stand, by their places in the record: `<region:0,2>`.

Boxes are written there in a recipe's convention; a region without a box writes nothing.
"""


def region_mark(*places: int) -> str:
    """
    >>> region_mark(0, 2)
    '<region:0,2>'
    """
    return f"<region:{','.join(map(str, places))}>"


def _state(self: Any) -> list[Any]:
    """Pickle the slots, one after the other: twice as fast as what a dataclass does by itself."""
    return [getattr(self, name) for name in self.__slots__]


def _restore(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__slots__, state, strict=True):
        object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """A picture as the official release places it."""

    path: str
    """POSIX path relative to the dataset root: of the file, or of the container holding `member`."""
    member: str | None = None
    """Name inside a zip or tar, or `row:column` inside a Parquet file."""

    __getstate__ = _state
    __setstate__ = _restore


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Role
    content: str
    loss: bool | None = None
    """Whether to learn this turn, where the release says so; otherwise assistant turns are learnt."""

    __getstate__ = _state
    __setstate__ = _restore


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A labelled part of one picture, in absolute pixels of the original file."""

    label: str
    box: tuple[float, float, float, float] | None
    """x0, y0, x1, y1; kept as given, also where degenerate."""
    image: int = 0
    """Index into the record's pictures."""
    span: tuple[int, int] | None = None
    """Character span (start, end) of the phrase in the message it belongs to, if known."""
    polygons: tuple[tuple[float, ...], ...] = ()
    """Each x0, y0, x1, y1, ... in absolute pixels."""
    rle: str | None = None
    """COCO run-length mask as JSON text."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    __getstate__ = _state
    __setstate__ = _restore


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One official item with everything its release says about it."""

    source: str
    split: str
    native_id: str
    """The release's own id as text; unique within (source, split)."""
    task: Task
    images: tuple[ImageRef, ...] = ()
    messages: tuple[Message, ...] = ()
    answers: tuple[str, ...] | None = None
    """All reference answers, for evaluation; None where the release hides them."""
    choices: tuple[str, ...] = ()
    answer_index: int | None = None
    regions: tuple[Region, ...] = ()
    license: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the official record holds, under its own keys."""
    file: str = ""
    """Official file the record stands in, relative to the root."""

    @property
    def sample_id(self) -> str:
        """SHA-256 of (source, split, native_id), as hex."""
        return hashlib.sha256(orjson.dumps([self.source, self.split, self.native_id])).hexdigest()

    @property
    def content_id(self) -> str:
        """SHA-256 of all fields, as hex: tells a changed record from an unchanged one."""
        return hashlib.sha256(
            orjson.dumps(self, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        ).hexdigest()

    __getstate__ = _state
    __setstate__ = _restore


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A record that was not taken, and why."""

    source: str
    split: str
    reason: str
    """Short and countable, snake_case: `missing_file`, `truncated_image`, `wrong_type`, ..."""
    file: str
    """Relative to the dataset root."""
    record: str
    """The record's own id, or its position in the file (`#17`); of a record that was kept without one of
    its regions, `id/region 3`."""
    message: str
    """What was found, what was expected, in words."""

    __getstate__ = _state
    __setstate__ = _restore
