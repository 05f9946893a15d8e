"""A split's items on their way into chunks: checked, cut into ranges, and keyed by their content."""

import gc
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import orjson

from catalog.record import Record, Refusal
from pipeline.limits import Refused
from pipeline.sources import Source

INGEST_VERSION = 3
"""Raise when the same official bytes would give other rows."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Leave Python's search for cycles off: records are trees, and it would walk them all again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def refusal_of(record: Record, reason: Refused) -> Refusal:
    """Return the refusal of a record that was read, and cannot be taken."""
    return Refusal(
        source=record.source,
        split=record.split,
        reason=reason.reason,
        file=record.file,
        record=record.native_id,
        message=reason.message,
    )


Content = tuple[Record | Refusal, str]
"""An item, and what tells it from a changed one."""


def checked(items: Iterator[Record | Refusal]) -> Iterator[Content]:
    """Refuse a second record of one id, for `sample_id` is an identity, and what cannot be stored."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, Record):
            try:
                content = item.content_id
            except (TypeError, ValueError, RecursionError) as error:
                item = refusal_of(
                    item, Refused("broken_text", f"cannot be stored as JSON: {error}")
                )
            else:
                if item.native_id not in seen:
                    seen.add(item.native_id)
                    yield item, content
                    continue
                item = refusal_of(
                    item, Refused("duplicate_id", "this id came before in this split")
                )
        yield item, repr(item)


def chunked(items: Iterator[Content], size: int) -> Iterator[list[Content]]:
    """Yield the items in lists of a size."""
    # A split without records is one empty chunk, so that the ledger knows it was read.
    yield list(islice(items, size))
    for item in items:
        yield [item, *islice(items, size - 1)]


def key_of(source: Source, settings: str, split: str, contents: Iterable[str]) -> str:
    """Return what tells a range of items, and how they were made, from every other."""
    made_by = [INGEST_VERSION, source.name, source.version, split]
    digest = hashlib.sha256(orjson.dumps([*made_by, settings] if settings else made_by))
    digest.update("".join(contents).encode(errors="surrogatepass"))
    return digest.hexdigest()
