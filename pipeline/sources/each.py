"""What dialogue readers share: which files make which splits, and one record a row.

Two spec helpers give `Source.splits`: a split for each file, or one split for all of them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import (
    Bad,
    Item,
    is_conversation_file,
    read_rows,
    refusal,
    relative,
)
from pipeline.sources.dialog import Dialog
from pipeline.sources.pictures import referred

Splits = Callable[[Path], dict[str, tuple[Path, ...]]]
Reader = Callable[[Path, str, tuple[Path, ...]], Iterator[Item]]
Rows = Callable[[Path, Path], Iterable[Any]]
"""(root, file) -> its rows; one that cannot be read is a `Bad` in its place."""
Say = Callable[[Path, dict[str, Any]], Dialog]
"""(root, row) -> what the row says; raises `Bad`."""
IDS = ("id", "idx", "prompt_id")


def matching(root: Path, patterns: Iterable[str], keys: Iterable[str] = ()) -> list[Path]:
    """Return the files that match, in order of their path; with `keys`, those whose head has one."""
    files = {file for pattern in patterns for file in root.glob(pattern) if file.is_file()}
    return sorted(file for file in files if not keys or is_conversation_file(file, tuple(keys)))


def split_a_file(*patterns: str, keys: Iterable[str] = ()) -> Splits:
    """Make each file a split, named by its stem; files of one stem are one split."""

    def splits(root: Path) -> dict[str, tuple[Path, ...]]:
        found: dict[str, tuple[Path, ...]] = {}
        for file in matching(root, patterns, keys):
            stem = file.name.split(".json")[0]
            found[stem] = (*found.get(stem, ()), file)
        return found

    return splits


def one_split(*patterns: str, keys: Iterable[str] = (), name: str = "train") -> Splits:
    """Make all files one split."""

    def splits(root: Path) -> dict[str, tuple[Path, ...]]:
        files = tuple(matching(root, patterns, keys))
        return {name: files} if files else {}

    return splits


def rows_of_json(root: Path, file: Path) -> Iterable[Any]:
    """Return the rows of a JSON or JSON Lines file."""
    return read_rows(file)


def reader(
    source: str,
    license: str,
    say: Say,
    rows: Rows = rows_of_json,
    *,
    in_place: bool | None = None,
) -> Reader:
    """Return a reader that makes one record of each row, and a refusal of each that breaks.

    `in_place`: a row's position is its place in the file, so that its base64 pictures can be read
    there; by default, where `rows` gives the file's rows as they stand.
    """
    here = rows is rows_of_json if in_place is None else in_place
    return partial(_read, source, license, say, rows, here)


def _read(
    source: str,
    license: str,
    say: Say,
    rows: Rows,
    in_place: bool,
    root: Path,
    split: str,
    files: tuple[Path, ...],
) -> Iterator[Item]:
    """Yield one record a row, in file order; a licence of the row's own stands before the source's."""
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        for position, row in enumerate(rows(root, file)):
            key = f"#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                if not isinstance(row, dict):
                    raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
                key = record_id(row, f"{name}#{position}", seen)
                said = _said(say, in_place, root, row, name, position)
                own = row.get("license")
                yield Record(
                    source=source,
                    split=split,
                    native_id=key,
                    task="conversation" if said.images else "text",
                    images=said.images,
                    messages=said.messages,
                    regions=said.regions,
                    license=own if isinstance(own, str) and own else license,
                    extra=said.extra,
                    file=name,
                )
            except Bad as bad:
                yield refusal(source, split, name, key, bad)


def _said(
    say: Say, in_place: bool, root: Path, row: dict[str, Any], file: str, position: int
) -> Dialog:
    try:
        return say(root, row)
    except Bad as bad:
        if bad.reason != "inline_picture" or not in_place:
            raise
        return say(root, referred(row, file, f"{position}:"))


def record_id(row: dict[str, Any], place: str, seen: set[str]) -> str:
    """Return the record's id; its place, such as `a.json#7`, where it has none or one used before.

    >>> seen = set()
    >>> [record_id(row, f"a.json#{n}", seen) for n, row in enumerate([{"id": 4}, {}, {"id": "4"}])]
    ['4', 'a.json#1', 'a.json#2']
    """
    given = None
    for name in IDS:
        if (given := row.get(name)) not in (None, ""):
            break
    key = str(given) if given != "" and isinstance(given, int | str) else place
    if key in seen:
        key = place
    seen.add(key)
    return key
