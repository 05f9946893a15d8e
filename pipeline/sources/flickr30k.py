"""Flickr30K captions, in each of their files -> Record, one a caption.

Format: https://shannon.cs.illinois.edu/DenotationGraph. The token file and `results.csv` are one split
(`all`); Karpathy's JSON and the table `flickr_annotations_30k.csv` cut it into train, val and test;
`flickr30k_cn_test.txt` has Chinese captions.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from catalog.record import Record
from pipeline.sources import karpathy
from pipeline.sources.base import Bad, Item, Source, need, relative, rest
from pipeline.sources.files import csv_rows
from pipeline.sources.origin import Keyed, Origin, nested, numbered, of_split
from pipeline.sources.rows import read_text

FOLDER = "flickr30k-images"
TABLE_SPLITS = ("train", "val", "test")
LICENSE = "Flickr terms, research only"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the file that cuts it; Karpathy's JSON goes before the table of the same cut."""
    table = root / "flickr_annotations_30k.csv"
    found: dict[str, tuple[Path, ...]] = {}
    if table.exists():
        found |= dict.fromkeys(TABLE_SPLITS, (table,))
    found |= karpathy.splits(root / "dataset_flickr30k.json")
    for name in ("results.csv", "results_20130124.token"):
        if (root / name).exists():
            found["all"] = (root / name,)
    for file in sorted(root.glob("flickr30k_cn_test*.txt")):
        found["cn_test"] = (file,)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a caption, in file order."""
    if files[0].suffix == ".json":
        yield from karpathy.read(
            "flickr30k", LICENSE, root, split, files[0], name=split, folder=FOLDER
        )
        return
    origin = Origin(source="flickr30k", split=split, file=relative(files[0], root), license=LICENSE)
    if files[0].name == "flickr_annotations_30k.csv":
        yield from origin.items(_table(files[0], split), _of_table)
        return
    lines = list({".token": _token, ".csv": _piped, ".txt": _chinese}[files[0].suffix](files[0]))
    references: dict[str, list[str]] = {}
    for _, line in lines:
        if not isinstance(line, Bad):
            references.setdefault(line["image_id"], []).append(line["caption"])

    def record(origin: Origin, key: str, line: Any) -> Record:
        return origin.caption(
            key,
            line["caption"],
            images=[f"{FOLDER}/{line['image_id']}"],
            references=references[line["image_id"]],
            extra=rest(line, "caption"),
        )

    yield from origin.items(lines, record)


def _token(file: Path) -> Iterator[Keyed]:
    """Yield the lines `1000092.jpg#0<TAB>A cat sits on a mat .`, of which only the first tab parts."""
    for number, line in enumerate(_lines(file), start=1):
        key, tab, caption = line.partition("\t")
        image, mark, _ = key.rpartition("#")
        if not tab or not mark:
            yield f"line {number}", Bad("broken_row", f"{line!r:.80} is not NAME#NUMBER, tab, text")
        else:
            yield key, {"image_id": image, "caption": caption}


def _piped(file: Path) -> Iterator[Keyed]:
    """Yield the lines `1000092.jpg| 0| A cat sits on a mat .`; one of the release has no number."""
    for number, line in enumerate(_lines(file)[1:], start=2):
        cells = line.split("|", 2)
        if len(cells) != 3:
            yield f"line {number}", Bad("broken_row", f"{line!r:.80} has {len(cells)} cells, not 3")
        else:
            image, comment, caption = cells
            yield f"{image}#{comment.strip()}", {"image_id": image, "caption": caption.strip(" ")}


def _chinese(file: Path) -> Iterator[Keyed]:
    """Yield the lines `1000092.jpg,caption` below a header; captions hold full-width commas."""
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(file)[1:], start=2):
        image, comma, caption = line.partition(",")
        if not comma:
            yield f"line {number}", Bad("broken_row", f"{line!r:.80} is not NAME, comma, text")
        else:
            seen[image] = seen.get(image, -1) + 1
            yield f"{image}#{seen[image]}", {"image_id": image, "caption": caption}


def _lines(file: Path) -> list[str]:
    return [line for line in re.split(r"\r?\n", read_text(file)) if line]


def _table(file: Path, split: str) -> Iterator[Keyed]:
    """Yield (row, sentence) of the table whose cells `raw` and `sentids` hold JSON."""

    def sentences(row: Any) -> Any:
        if isinstance(row, Bad):
            return row
        try:
            raw, ids = orjson.loads(row["raw"]), orjson.loads(row["sentids"])
            pairs = zip(raw, ids, strict=True)
            return row | {"sentences": [{"raw": text, "sentid": own} for text, own in pairs]}
        except (KeyError, TypeError, ValueError) as error:
            return row | {"sentences": f"'raw' and 'sentids' are no two lists: {error}"}

    rows = of_split(numbered(map(sentences, csv_rows(file)), "img_id"), split, TABLE_SPLITS)
    return nested(rows, "sentences", "sentid")


def _of_table(origin: Origin, key: str, pair: tuple[Any, Any]) -> Record:
    row, sentence = pair
    return origin.caption(
        key,
        need(sentence, "raw", str),
        images=[f"{FOLDER}/{need(row, 'filename', str)}"],
        references=[need(each, "raw", str) for each in row["sentences"]],
        extra={"image_id": row["filename"]}
        | rest(row, "raw", "sentids", "sentences")
        | rest(sentence, "raw"),
    )


FLICKR30K = Source(
    name="flickr30k",
    title="Flickr30K",
    family="caption",
    files=(
        "results_20130124.token (or results.csv)",
        "or dataset_flickr30k.json (Karpathy)",
        "or flickr_annotations_30k.csv",
        "or flickr30k_cn_test.txt",
        f"{FOLDER}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://shannon.cs.illinois.edu/DenotationGraph",
    official={"all": 158_915, "train": 145_000, "val": 5_070, "test": 5_000},
    note="`all` and the splits hold the same captions: take one of the two",
)
