"""SynthDoG: rendered pages and their text, from the generator's output or the hub's Parquet -> Record.

Formats: https://github.com/clovaai/donut/tree/master/synthdog and
https://huggingface.co/datasets/naver-clova-ix/synthdog-en. Donut's question answering, `gt_parses` in the
place of `gt_parse`, comes in the same files: a question a turn, answered by the first of its answers.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from catalog.record import IMAGE, ImageRef, Message, Record
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
    asked = _asked(truth)
    parse = {} if asked else need(truth, "gt_parse", dict)
    text = None if asked else need(parse, "text_sequence", str)
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
    record = page(
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
    return replace(record, task="vqa", messages=asked) if asked else record


def _asked(truth: Any) -> tuple[Message, ...]:
    """Return the turns of Donut's question answering, whose list repeats a question an answer."""
    if not isinstance(truth, dict) or "gt_parses" not in truth:
        return ()
    first: dict[str, str] = {}
    for each in need(truth, "gt_parses", list):
        first.setdefault(need(each, "question", str), need(each, "answer", str))
    turns: list[Message] = []
    for question, answer in first.items():
        shown = question if turns else f"{IMAGE}\n{question}"
        turns += [Message(role="user", content=shown), Message(role="assistant", content=answer)]
    if not turns:
        raise Bad("no_question", "'gt_parses' is an empty list")
    return tuple(turns)


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
