"""Web pictures with a caption, as tables of urls and as img2dataset's shards -> Record, one a row.

Formats: https://github.com/rom1504/img2dataset (shards, and the tables of its dataset_examples),
https://github.com/kakaobrain/coyo-dataset, https://wukong-dataset.github.io. A table (split `table`) has
no pictures: its captions are kept with their urls, and never learnt. Shards (split `shards`) have them;
what could not be downloaded is refused with its status. The OCR variants are not released as files
[unverified]: they are read in the same shapes, with their own columns in `extra`.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import DataError
from catalog.record import ImageRef, Message, Record
from pipeline.sources.base import Bad, Item, Source, need, read_json, relative, rest
from pipeline.sources.files import csv_cells, csv_rows
from pipeline.sources.origin import Keyed, Origin
from pipeline.sources.parquet import read_parquet
from pipeline.sources.plain import plain
from pipeline.sources.rows import texts
from pipeline.sources.shards import PICTURES, Sample, folder_samples, tar_samples

TABLES = (".parquet", ".csv", ".tsv")
SHARDS = (".tar", ".tar.gz", ".tgz")
KEYS = ("key", "id", "SAMPLE_ID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold what, in order of preference; the case differs between the sets."""

    caption: tuple[str, ...] = ("caption", "TEXT", "text", "txt")
    references: str | None = None
    """All captions of a row, a list."""
    header: tuple[str, ...] | None = None
    """Of TSV files that have none."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return `table` -> its files, and `shards` -> archives, and what img2dataset lists of them."""
    tables: list[Path] = []
    shards: list[Path] = []
    for file in sorted(root.iterdir()):
        if file.name.endswith(SHARDS):
            shards.append(file)
        elif file.suffix in TABLES and file.is_file():
            whose = shards if _of_shard(file) else tables
            whose.append(file)
        elif file.name.startswith("sbu-captions") and file.suffix == ".json":
            tables.append(file)
    found = {"table": tuple(tables), "shards": tuple(shards)}
    return {split: files for split, files in found.items() if files}


def _of_shard(file: Path) -> bool:
    """Tell whether a table belongs to a shard: it lists its rows, or holds its pictures."""
    return file.suffix == ".parquet" and (
        file.with_suffix("").is_dir()
        or any(file.with_suffix(suffix).exists() for suffix in SHARDS)
        or _picture_column(file) is not None
    )


def _picture_column(file: Path) -> str | None:
    try:
        names = pq.read_schema(file).names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"no whole Parquet file: {error}", file=file, fix="download the file again"
        ) from error
    return next((name for name in names if name in PICTURES), None)


def read(
    source: str, license: str, columns: Columns, root: Path, split: str, files: tuple[Path, ...]
) -> Iterator[Item]:
    """Yield one record a row, file by file; of a shard, then what it lists and does not hold."""
    found: dict[str, set[str]] = {}
    # An archive goes before the table that lists its rows.
    for file in sorted(files, key=lambda file: (_shard(file), file.suffix == ".parquet")):
        origin = Origin(source=source, split=split, file=relative(file, root), license=license)
        record, folder = partial(_record, columns, _shard(file)), file.with_suffix("")
        if split == "table":
            yield from origin.items(_table(file, columns), record)
            continue
        column = _picture_column(file) if file.suffix == ".parquet" else None
        if file.suffix != ".parquet":
            rows = _samples(tar_samples(file), origin.file)
        elif column is not None:
            rows = _cells(file, origin.file, column)
        else:
            rows = _samples(folder_samples(folder, root) if folder.is_dir() else iter(()), None)
        held = found.setdefault(_shard(file), set())
        yield from origin.items(_noted(rows, held), record)
        if file.suffix == ".parquet":
            yield from origin.items(_not_held(file, held), record)


def _shard(file: Path) -> str:
    return file.name.partition(".")[0]


def _table(file: Path, columns: Columns) -> Iterator[Keyed]:
    rows: Iterator[Any]
    if file.suffix == ".parquet":
        rows = read_parquet(file)
    elif file.suffix == ".json":
        rows = _of_columns(file)
    elif file.suffix == ".tsv" and columns.header:
        cells = csv_cells(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = (_pair(columns.header, each) for each in cells)
    else:
        rows = csv_rows(file, delimiter="\t" if file.suffix == ".tsv" else ",")
    for number, row in enumerate(rows):
        own = [row[key] for key in KEYS if row.get(key)] if isinstance(row, dict) else []
        yield (own[0] if own else f"#{number}"), row if isinstance(row, Bad) else (row, None)


def _pair(header: tuple[str, ...], cells: list[str]) -> dict[str, str] | Bad:
    if len(cells) != len(header):
        return Bad("broken_row", f"{len(cells)} cells, expected {', '.join(header)}")
    return dict(zip(header, cells, strict=True))


def _of_columns(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of SBU's JSON object of columns."""
    content = read_json(file)
    try:
        for url, caption in zip(content["image_urls"], content["captions"], strict=True):
            yield {"url": url, "caption": caption}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"no columns 'image_urls' and 'captions' of one length: {error!r}",
            file=file,
            fix="take the official file",
        ) from error


def _samples(samples: Iterator[Sample], archive: str | None) -> Iterator[Keyed]:
    """Yield (row, picture) of samples: `KEY.jpg`, with `KEY.json` or `KEY.txt` beside it."""
    for sample in samples:
        try:
            row, name = sample.row(), sample.picture()
            image = ImageRef(path=archive, member=name) if archive else ImageRef(path=name)
            yield sample.key, (row, image)
        except Bad as bad:
            yield sample.key, bad


def _cells(file: Path, path: str, column: str) -> Iterator[Keyed]:
    """Yield (row, picture) of the downloaded rows of a Parquet shard."""
    for number, row in enumerate(read_parquet(file, without=(column,))):
        if row.get("status", "success") == "success":
            image = ImageRef(path=path, member=f"{number}:{column}")
            yield row.get("key") or f"#{number}", (row, image)


def _noted(rows: Iterable[Keyed], held: set[str]) -> Iterator[Keyed]:
    for key, row in rows:
        held.add(str(key))
        yield key, row


def _not_held(file: Path, held: set[str]) -> Iterator[Keyed]:
    """Yield a `Bad` for each row that a shard's table lists and the shard does not hold."""
    for number, row in enumerate(read_parquet(file, without=PICTURES)):
        key, status = row.get("key") or f"#{number}", row.get("status", "success")
        if status != "success":
            yield key, Bad(str(status), f"{row.get('url')}: {row.get('error_message')}")
        elif str(key) not in held:
            yield key, Bad("no_sample", f"{_shard(file)} lists this key, and does not hold it")


def _record(columns: Columns, shard: str, origin: Origin, key: str, pair: Any) -> Record:
    row, image = pair
    column = next((name for name in columns.caption if row.get(name) is not None), None)
    if column is None:
        raise Bad("no_caption", f"none of {', '.join(columns.caption)} has a text")
    caption, many = need(row, column, str), columns.references
    license = row.get("LICENSE")
    record = origin.caption(
        f"{shard}{key}" if key.startswith("#") else f"{shard}/{key}" if image else key,
        caption,
        images=[] if image is None else [image],
        references=texts(row, many) if many and row.get(many) else None,
        license=license if isinstance(license, str) and license not in ("", "?") else None,
        extra=plain(rest(row, column, *((many,) if many and row.get(many) else ()))),
    )
    if image is None:
        alone = Message(role="assistant", content=caption, loss=False)
        record = replace(record, messages=(alone,))
    return record


def _source(
    name: str,
    title: str,
    files: str,
    license: str,
    homepage: str,
    columns: Columns = Columns(),
    official: Mapping[str, int] | None = None,
    note: str = "Tables have urls alone: their captions are kept, and never learnt",
) -> Source:
    return Source(
        name=name,
        title=title,
        family="caption",
        files=(files, "or img2dataset's NNNNN.tar, NNNNN/ or NNNNN.parquet with pictures"),
        splits=splits,
        reader=partial(read, name, license, columns),
        license=license,
        homepage=homepage,
        official=official or {},
        note=note,
    )


_OCR = "Not released as files, the shape is unverified; texts found by OCR stay in `extra`"
_LAION = "https://laion.ai"
_NAMED = Columns(
    caption=("top_caption", "caption", "TEXT", "text", "txt"), references="all_captions"
)
LAION = _source("laion", "LAION", "part-*.parquet", "CC BY 4.0, pictures of their owners", _LAION)
LAION_COCO = _source(
    "laion_coco", "LAION-COCO", "*.parquet", "CC BY 4.0, pictures of their owners", _LAION, _NAMED
)
LAION_COCO_OCR = _source(
    "laion_coco_ocr",
    "LAION-COCO-OCR",
    "*.parquet",
    "CC BY 4.0, pictures of their owners",
    _LAION,
    _NAMED,
    note=_OCR,
)
COYO = _source(
    "coyo",
    "COYO-700M",
    "part-*.snappy.parquet",
    "CC BY 4.0",
    "https://github.com/kakaobrain/coyo-dataset",
    official={"table": 746_972_269},
)
WUKONG = _source(
    "wukong",
    "Wukong",
    "wukong_100m_*.csv",
    "CC BY-NC-SA 4.0",
    "https://wukong-dataset.github.io/wukong-dataset",
)
WUKONG_OCR = _source(
    "wukong_ocr",
    "Wukong-OCR",
    "*.csv or *.parquet",
    "CC BY-NC-SA 4.0",
    "https://wukong-dataset.github.io/wukong-dataset",
    note=_OCR,
)
CC3M = _source(
    "cc3m",
    "Conceptual Captions 3M",
    "Train-*.tsv (caption, url)",
    "free to use, pictures of their owners",
    "https://ai.google.com/research/ConceptualCaptions",
    Columns(header=("caption", "url")),
)
CC12M = _source(
    "cc12m",
    "Conceptual 12M",
    "cc12m.tsv (url, caption)",
    "free to use, pictures of their owners",
    "https://github.com/google-research-datasets/conceptual-12m",
    Columns(header=("url", "caption")),
    {"table": 12_423_374},
)
SBU = _source(
    "sbu",
    "SBU Captions",
    "sbu-captions-all.json",
    "unclear: Flickr pictures of their owners",
    "https://www.cs.rice.edu/~vo9/sbucaptions",
    official={"table": 1_000_000},
)
