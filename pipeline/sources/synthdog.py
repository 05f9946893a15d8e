"""SynthDoG: rendered pages and their text, from the generator's output or the hub's Parquet -> Record.

Formats: https://github.com/clovaai/donut/tree/master/synthdog and
https://huggingface.co/datasets/naver-clova-ix/synthdog-en
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from catalog.record import ImageRef, Record
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest, safe
from pipeline.sources.parquet import parquet_rows
from pipeline.sources.rows import records
from pipeline.sources.words import page

_SHARD = re.compile(r"(?P<split>[a-z]+)-\d+-of-\d+\.parquet")
METADATA = "metadata.jsonl"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> files; of a language's own folder, such as `synthdog-ja`: `ja_train`."""
    found: dict[str, list[Path]] = {}
    for home in (root, *sorted(root.glob("synthdog-*/"))):
        language = f"{home.name.removeprefix('synthdog-')}_" if home != root else ""
        for file in sorted(home.glob(f"*/{METADATA}")):
            found.setdefault(language + file.parent.name, []).append(file)
        for file in sorted([*home.glob("*.parquet"), *home.glob("data/*.parquet")]):
            if match := _SHARD.fullmatch(file.name):
                found.setdefault(language + match["split"], []).append(file)
    return {split: tuple(files) for split, files in found.items()}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a page, in file order."""
    for file in files:
        name = relative(file, root)
        rows: Any = read_rows(file) if file.name == METADATA else parquet_rows(root, file)
        record = partial(_record, split, name)
        yield from records("synthdog", split, name, rows, record, key="file_name")


def _record(split: str, file: str, position: int, row: Any) -> Record:
    truth = _truth(need(row, "ground_truth", str))
    parse = need(truth, "gt_parse", dict)
    text = need(parse, "text_sequence", str)
    folder, _, container = file.rpartition("/")
    if container == METADATA:
        key = need(row, "file_name", str)
        image = ImageRef(path=safe(f"{folder}/{key}"))
    else:
        key = f"{container.removesuffix('.parquet')}:{position}"
        image = need(row, "image", ImageRef)
    extra = rest(row, "ground_truth", "image") | rest(truth, "gt_parse")
    if more := rest(parse, "text_sequence"):
        extra["gt_parse"] = more
    return page(
        source="synthdog",
        split=split,
        native_id=key,
        image=image,
        text=text,
        regions=(),
        license="MIT",
        extra=extra,
        file=file,
    )


def _truth(text: str) -> Any:
    """Return the JSON that `ground_truth` holds as text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Bad("broken_json", f"'ground_truth' is not JSON: {error}") from error


SYNTHDOG = Source(
    name="synthdog",
    title="SynthDoG",
    family="ocr",
    files=(
        "{train,validation,test}/metadata.jsonl with image_*.jpg",
        "or data/{train,validation,test}-*.parquet",
        "or synthdog-{en,zh,ja,ko}/ with either",
    ),
    splits=splits,
    reader=read,
    license="MIT",
    homepage="https://github.com/clovaai/donut",
)
