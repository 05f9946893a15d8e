"""GRIT (Kosmos-2): web pictures whose captions' phrases have boxes -> one Record a picture.

Format: https://github.com/microsoft/unilm/tree/master/kosmos-2. Tables (split `table`: Parquet or
JSON Lines) name pictures by url; shards that img2dataset downloaded (split `shards`) hold them, and
so do the TSV files of unilm's prepare_grit.py (split `tsv`): MD5, caption, base64, width, height and,
in Python's spelling, `{'phrase': noun chunks, 'expression_v1': expressions}`, which may be missing.
Boxes are fractions of the sides and so hold for resized pictures too: ingest places them anew by
the picture's measured size. Like Kosmos-2, the caption to learn marks the expressions that no
other contains, scored 0.65 or more [threshold unverified]; all others are regions as well. A caption
without any is learnt as a caption.
"""

import ast
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    is_conversation_file,
    need,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.each import record_id
from pipeline.sources.files import json_lines
from pipeline.sources.parquet import columns_of, read_parquet
from pipeline.sources.regions import FRACTIONS, flags, numbers, relative_box
from pipeline.sources.shards import tar_samples
from pipeline.sources.spans import GROUND, Span, marked, outermost

MAX_LINE = 2**28
"""Longest line of a TSV file that is read, in bytes."""
PICTURE = 2
"""Column of a TSV file that holds the picture."""
KINDS = ("noun_chunks", "ref_exps")
FIRST = 10
"""Samples of a shard that are looked at to tell whose it is."""
SCORE = 0.65
"""Least score of a box to learn."""
LICENSE = "annotations MS-PL [unverified], pictures of third parties"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return `table` -> Parquet and JSON Lines files, `shards` -> tars, `tsv` -> TSV files."""
    shards = tuple(file for file in sorted(root.glob("*.tar")) if _has_boxes(file))
    # img2dataset leaves a table of statuses beside each tar.
    rows = [*sorted(root.glob("*.parquet")), *sorted(root.glob("*.jsonl"))]
    tables = tuple(f for f in rows if not f.with_suffix(".tar").exists() and _has_boxes(f))
    tsvs = tuple(file for file in sorted(root.glob("*.tsv")) if _has_boxes(file))
    found = {"table": tables, "shards": shards, "tsv": tsvs}
    return {split: files for split, files in found.items() if files}


def _has_boxes(file: Path) -> bool:
    """Tell whether a file's rows have GRIT's own field."""
    if file.suffix == ".parquet":
        return "ref_exps" in columns_of(file)
    if file.suffix == ".jsonl":
        return is_conversation_file(file, ("ref_exps",))
    if file.suffix == ".tsv":
        with file.open("rb") as stream:
            return any(b"\t{'phrase': " in line for line in islice(_lines(stream), FIRST))
    with closing(tar_samples(file)) as samples:
        first = list(islice(samples, FIRST))
    return any(b'"ref_exps"' in sample.texts.get("json", b"") for sample in first)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, file by file."""
    seen: set[str] = set()
    for file in files:
        place = relative(file, root)
        for position, (row, image) in enumerate(_rows(file, place)):
            key: object = f"{place}#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                key = str(need(row, "id", (int, str)))
                if file.suffix == ".tsv":
                    # Where a picture comes twice, so does its MD5.
                    key = record_id(row, f"{place}#{position}", seen)
                yield _record(split, place, key, row, image)
            except Bad as bad:
                yield refusal("grit", split, place, key, bad)


def _rows(file: Path, place: str) -> Iterator[tuple[Any, ImageRef | None]]:
    """Yield rows with the reference of their picture, None where only its url is known."""
    if file.suffix == ".tar":
        for sample in tar_samples(file):
            try:
                row = sample.row()
                status = row.get("status", "success")
                if status != "success":
                    raise Bad("not_downloaded", f"{status!r}: {row.get('error_message')!r:.200}")
                yield row, ImageRef(path=place, member=sample.picture())
            except Bad as bad:
                yield bad, None
    elif file.suffix == ".tsv":
        yield from _tsv_rows(file, place)
    else:
        rows = read_parquet(file) if file.suffix == ".parquet" else json_lines(file)
        yield from ((row, None) for row in rows)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of one too long for a picture and its caption, the beginning."""
    while line := stream.readline(MAX_LINE):
        yield line
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
            pass


def _tsv_rows(file: Path, place: str) -> Iterator[tuple[Any, ImageRef | None]]:
    with file.open("rb") as stream:
        for number, line in enumerate(_lines(stream)):
            if line.strip():
                image = ImageRef(path=place, member=f"{number}:#{PICTURE}")
                yield _tsv_row(line), image


def _tsv_row(line: bytes) -> dict[str, Any] | Bad:
    try:
        md5, caption, _, width, height, *more = line.decode().rstrip("\r\n").split("\t")
        boxes = ast.literal_eval(more[0]) if more else {"phrase": [], "expression_v1": []}
        size = {"width": int(width), "height": int(height)}
        chunks, expressions = boxes["phrase"], boxes["expression_v1"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        return Bad("broken_row", f"not the six columns of prepare_grit.py: {error!r:.120}")
    if len(more) > 1:
        return Bad("broken_row", f"{5 + len(more)} columns, expected 6")
    return {"id": md5, "caption": caption, "noun_chunks": chunks, "ref_exps": expressions} | size


def _record(split: str, file: str, key: str, row: dict[str, Any], image: ImageRef | None) -> Record:
    caption = need(row, "caption", str)
    if not caption.strip():
        raise Bad("empty_caption", "the caption is blank")
    size = need(row, "width", (int, float)), need(row, "height", (int, float))
    found: list[tuple[Span, Region]] = []
    for kind in KINDS:
        for entry in need(row, kind, list):
            start, end, *box, score = numbers(entry, kind, 7)
            span = int(start), int(end)
            if not 0 <= span[0] < span[1] <= len(caption):
                raise Bad("bad_span", f"{kind}: {span} in a caption of {len(caption)} characters")
            found.append((span, _region(kind, caption[slice(*span)], box, size, score)))
    said = [
        span for span, r in found if r.extra["kind"] == "ref_exps" and r.extra["score"] >= SCORE
    ]
    text = marked(
        [
            (*span, [at for at, (other, region) in enumerate(found) if _same(other, region, span)])
            for span in outermost(said)
        ],
        caption,
    )
    return Record(
        source="grit",
        split=split,
        native_id=key,
        task="caption",
        images=(image or ImageRef(path=safe(need(row, "url", str))),),
        messages=(
            Message(role="user", content=f"{IMAGE}\n{GROUND}" if said else IMAGE),
            Message(role="assistant", content=text.text),
        ),
        answers=(caption,),
        regions=tuple(_spanned(region, text.moved(span)) for span, region in found),
        license=LICENSE,
        extra=rest(row, "caption", *KINDS),
        file=file,
    )


def _region(
    kind: str, phrase: str, box: list[float], size: tuple[float, float], score: float
) -> Region:
    width, height = size
    x0, y0, x1, y1 = box
    corners = (x0 * width, y0 * height, x1 * width, y1 * height)
    return Region(
        label=phrase,
        box=corners,
        extra={"kind": kind, "score": score}
        | relative_box(box, FRACTIONS)
        | flags(corners, width, height),
    )


def _same(other: Span, region: Region, span: Span) -> bool:
    extra = region.extra
    return other == span and extra["kind"] == "ref_exps" and extra["score"] >= SCORE


def _spanned(region: Region, span: Span) -> Region:
    return Region(label=region.label, box=region.box, span=span, extra=region.extra)


GRIT = Source(
    name="grit",
    title="GRIT (Kosmos-2)",
    family="region",
    files=(
        "coyo_*_snappy.parquet or *.jsonl, by url",
        "or img2dataset's NNNNN.tar, or prepare_grit.py's *.tsv, with pictures",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/microsoft/unilm/tree/master/kosmos-2",
    note=(
        "tables hold urls, not pictures: download with img2dataset to train; the score "
        "threshold and the licence are unverified"
    ),
    version=2,
)
