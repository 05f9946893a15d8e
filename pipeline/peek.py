"""What a reader yields, without writing anything: as JSON objects, and for the eye."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from catalog.errors import UserError
from catalog.record import Record, Refusal, Region
from pipeline.recognise import recognise
from pipeline.sources import SOURCES, Source, find
from pipeline.sources.base import Item

LIKELY = 0.1
"""From here on a guess is worth telling somebody who named another source."""


def peek(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one JSON-ready object a record or refusal, over all splits or one.

    Raises:
        UserError: no such source, option, folder or split.
        DataError: a file is broken.
    """
    source = find(name).of_job(name, options or {})
    splits = [split] if split else list(_found(source, root))
    items = (item for each in splits for item in source.read(root, each))
    yield from (as_json(item) for item in islice(items, limit))


def _found(source: Source, root: Path) -> Iterable[str]:
    """Return the splits; where there are none, say too what the folder looks like."""
    try:
        return source.found(root)
    except UserError as error:
        if not root.is_dir():
            raise
        likely = [guess for guess in recognise(root) if guess.sure >= LIKELY]
        if not likely or likely[0].source == source.name:
            raise
        raise UserError(
            error.problem,
            fix=f"{error.fix}\nIt looks like {likely[0].source} ({likely[0].sure:.0%} sure): "
            f"{likely[0].why}",
        ) from error


def as_json(item: Item) -> dict[str, Any]:
    """Return a record or refusal as it is printed by `cuvee peek --json`."""
    if isinstance(item, Refusal):
        return {
            "refused": item.reason,
            "source": item.source,
            "split": item.split,
            "file": item.file,
            "record": item.record,
            "message": item.message,
        }
    return {
        "source": item.source,
        "split": item.split,
        "native_id": item.native_id,
        "task": item.task,
        "images": [
            ref.path if ref.member is None else f"{ref.path}:{ref.member}" for ref in item.images
        ],
        "messages": [
            {"role": message.role, "content": message.content}
            | ({} if message.loss is None else {"loss": message.loss})
            for message in item.messages
        ],
        "answers": None if item.answers is None else list(item.answers),
        "choices": list(item.choices),
        "answer_index": item.answer_index,
        "regions": [_region(region) for region in item.regions],
        "license": item.license,
        "extra": dict(item.extra),
    }


def _region(region: Region) -> dict[str, Any]:
    values: dict[str, Any] = {
        "label": region.label,
        "box": None if region.box is None else list(region.box),
    }
    optional = {
        "image": region.image,
        "span": region.span,
        "polygons": region.polygons,
        "rle": region.rle,
        "extra": dict(region.extra),
    }
    return values | {key: value for key, value in optional.items() if value}


def json_line(item: dict[str, Any]) -> bytes:
    """Return an item as one line of JSON; what JSON cannot say is said as Python's JSON would."""
    try:
        return orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # half a character, or a number beyond 64 bits
        return json.dumps(item, default=str).encode() + b"\n"


def show(console: Console, items: Iterable[dict[str, Any]]) -> None:
    """Print records as panels, then how many there were and why some were refused."""
    records, refused = 0, Counter[str]()
    for item in items:
        if "refused" in item:
            refused[item["refused"]] += 1
            place = f"{item['file']}, record {item['record']}"
            console.print(Text(f"refused ({item['refused']}): {place}: {item['message']}", "red"))
            continue
        records += 1
        body = Text()
        for path in item["images"]:
            body.append(f"{path}\n", "cyan")
        for message in item["messages"]:
            body.append(f"{message['role']}: ", "bold").append(f"{message['content'][:400]}\n")
        for region in item["regions"]:
            body.append(f"{region['label']} {region['box']}\n", "green")
        if item["answers"]:
            counts = Counter(item["answers"])
            body.append("answers: " + ", ".join(f"{a} x{n}" for a, n in counts.most_common()))
        title = f"{item['source']} / {item['split']} / {item['native_id']}"
        console.print(Panel(body, title=title, title_align="left", subtitle=item["license"]))
    console.print(f"{records} records, {refused.total()} refused", highlight=False)


def sources_json() -> Iterator[str]:
    """Yield one JSON object a source."""
    for source in SOURCES:
        yield orjson.dumps(
            {
                "name": source.name,
                "title": source.title,
                "family": source.family,
                "files": source.files,
                "license": source.license,
                "homepage": source.homepage,
                "official": dict(source.official),
                "unverified": source.unverified,
                "note": source.note,
            }
        ).decode()


def sources_table() -> Table:
    """Return the table of `cuvee sources`."""
    table = Table(title="Official formats", title_justify="left")
    for column in ("name", "family", "files", "licence", "official size"):
        table.add_column(column, overflow="fold")
    for source in SOURCES:
        sizes = "\n".join(source.sizes)
        files = Text("\n".join(source.files))
        if source.note:
            files.append(f"\n{source.note}", "italic")
        table.add_row(source.name, source.family, files, source.license, sizes or "-")
    return table


__all__ = ["Record", "as_json", "peek", "show", "sources_json", "sources_table"]
