"""Web documents with pictures between their text, MMC4 and OBELICS -> Record.

Formats: https://github.com/allenai/mmc4, https://huggingface.co/datasets/HuggingFaceM4/OBELICS

A document is one assistant turn: text to learn, with marks where its pictures stand. Neither release
holds pictures. MMC4 names the file that each is downloaded to; OBELICS has only addresses, so a
picture is looked for at `images/<SHA-256 of its address>`. Where any is missing, the document is
refused when it is ingested.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message
from pipeline.sources.base import Bad, Source, first_folder, need, read_rows, rest, safe
from pipeline.sources.dialog import Dialog
from pipeline.sources.each import one_split, reader
from pipeline.sources.parquet import parquet_rows

Piece = str | ImageRef
LINE = 64 * 1024**2
"""Longest line read from a zip, in bytes: no document comes near."""


def document(pieces: Sequence[Piece], extra: dict[str, Any]) -> Dialog:
    """Return a document of text and pictures in reading order, a line break between any two.

    Raises:
        Bad: `empty_document`, or a text that itself writes `<image>` before the last picture.
    """
    if not pieces:
        raise Bad("empty_document", "neither text nor a picture")
    images = tuple(piece for piece in pieces if isinstance(piece, ImageRef))
    marks = 0
    for piece in pieces:
        literal = isinstance(piece, str) and IMAGE in piece
        if literal and marks < len(images):
            raise Bad("placeholder_mismatch", f"the text writes {IMAGE} before the last picture")
        marks += isinstance(piece, ImageRef)
    content = "\n".join(piece if isinstance(piece, str) else IMAGE for piece in pieces)
    return Dialog(
        messages=(Message(role="assistant", content=content),), images=images, extra=extra
    )


def _say_mmc4(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a document; a picture stands before the sentence it is matched to."""
    texts = need(row, "text_list", list)
    if not all(isinstance(text, str) for text in texts):
        raise Bad("wrong_type", "a text of 'text_list' is no text")
    folder = first_folder(root, ("images",), "")
    placed = []
    for number, info in enumerate(need(row, "image_info", list)):
        index = need(info, "matched_text_index", int)
        if not 0 <= index < len(texts):
            raise Bad(
                "bad_text_index", f"picture {number} is matched to text {index} of {len(texts)}"
            )
        name = safe(need(info, "image_name", str))
        placed.append((index, number, ImageRef(path=f"{folder}/{name}" if folder else name)))
    # image_info is in no order; pictures of one sentence keep theirs.
    before = {index: list(group) for index, group in groupby(sorted(placed, key=_place), _index)}
    pieces: list[Piece] = []
    for index, text in enumerate(texts):
        pieces += [ref for _, _, ref in before.get(index, ())]
        pieces.append(text)
    kept = () if any("\n" in text for text in texts) else ("text_list",)
    return document(pieces, rest(row, *kept))


def _place(item: tuple[int, int, ImageRef]) -> tuple[int, int]:
    return item[:2]


def _index(item: tuple[int, int, ImageRef]) -> int:
    return item[0]


def _say_obelics(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a document; at each position stands a text or a picture's address."""
    texts, urls = need(row, "texts", list), need(row, "images", list)
    if len(texts) != len(urls):
        raise Bad("unequal_lengths", f"{len(texts)} texts and {len(urls)} images")
    pieces: list[Piece] = []
    for position, (text, url) in enumerate(zip(texts, urls, strict=True)):
        if (text is None) == (url is None):
            raise Bad("wrong_type", f"position {position} needs a text or an image, and one only")
        if isinstance(text, str | None) and isinstance(url, str | ImageRef | None):
            pieces.append(text if text is not None else _downloaded(url))
        else:
            raise Bad("wrong_type", f"position {position} is {text!r:.40}, {url!r:.40}")
    extra = rest(row, "texts", "images", "metadata", "general_metadata")
    if any(isinstance(url, str) for url in urls):
        extra["urls"] = [url for url in urls if url is not None]
    if any("\n" in text for text in texts if text is not None):
        extra["texts"] = texts
    return document(pieces, extra | _metadata(row))


def _downloaded(url: Any) -> ImageRef:
    if isinstance(url, ImageRef):
        return url
    return ImageRef(path=f"images/{hashlib.sha256(url.encode()).hexdigest()}")


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """Return the two columns that are JSON text, read."""
    found = {}
    for name in ("metadata", "general_metadata"):
        text = row.get(name)
        try:
            found[name] = orjson.loads(text) if isinstance(text, str) else text
        except orjson.JSONDecodeError as error:
            raise Bad("broken_json", f"{name!r} is no JSON: {error}") from error
    return found


def _mmc4_rows(root: Path, file: Path) -> Iterable[Any]:
    return _zipped(file) if file.suffix == ".zip" else read_rows(file)


def _zipped(file: Path) -> Iterator[Any]:
    """Yield the rows of a zipped shard, a line at a time."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                with archive.open(member) as lines:
                    while line := lines.readline(LINE):
                        yield _row(line)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(str(error), file=file, fix="download the file again") from error


def _row(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Bad("broken_json", f"this line is not JSON: {error}")


MMC4 = Source(
    name="mmc4",
    title="MMC4",
    family="instruction",
    files=("docs_shard_*_v2.jsonl (or _v3), whole or zipped", "images/<image_name>"),
    splits=one_split("docs_*.jsonl", "docs_*.jsonl.zip"),
    reader=reader("mmc4", "ODC-BY", _say_mmc4, _mmc4_rows),
    license="ODC-BY",
    homepage="https://github.com/allenai/mmc4",
    note="Pictures have to be downloaded first; a document without all of its own is refused",
)
OBELICS = Source(
    name="obelics",
    title="OBELICS",
    family="instruction",
    files=("data/train-*.parquet", "images/<SHA-256 of the address>"),
    splits=one_split("*.parquet", "data/*.parquet"),
    reader=reader("obelics", "CC BY 4.0", _say_obelics, parquet_rows),
    license="CC BY 4.0",
    homepage="https://huggingface.co/datasets/HuggingFaceM4/OBELICS",
    note="Pictures have to be downloaded first; a document without all of its own is refused",
    official={"train": 141_047_697},
)
