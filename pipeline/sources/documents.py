"""Plain and long documents: text files, JSON Lines or Parquet with a text column -> Record.

Formats: C4, RedPajama, the Pile and the like, also packed with gzip or zstandard. A document stays whole
however long it is.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import Message, Record
from pipeline.limits import Refused
from pipeline.sources.base import Bad, Item, Source, read_rows, refusal, relative
from pipeline.sources.columns import NAMES, TableOptions, options_of, plain
from pipeline.sources.each import record_id
from pipeline.sources.hf import table_rows
from pipeline.unpack import CUT_OFF, open_unpacked

TEXTS = (".txt", ".md")
ROWS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow")
SPLITS = ("train", "validation", "val", "valid", "dev", "test")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files by split: their folder or the beginning of their name, else `train`."""
    found: dict[str, tuple[Path, ...]] = {}
    known = (file for file in root.rglob("*") if _kind(file) in (*TEXTS, *ROWS))
    for file in sorted(known):
        if file.is_file() and not _is_hidden(file, root):
            name = _split_of(file.relative_to(root).parts)
            found[name] = (*found.get(name, ()), file)
    return found


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in (".gz", ".zst")]
    return suffixes[-1] if suffixes else ""


def _split_of(parts: tuple[str, ...]) -> str:
    """
    >>> _split_of(("en", "val", "a.txt")), _split_of(("test-00.jsonl.zst",)), _split_of(("training.txt",))
    ('val', 'test', 'train')
    """
    words = [*reversed(parts[:-1]), parts[-1].split(".")[0].split("-")[0].split("_")[0]]
    return next((word for word in words if word in SPLITS), "train")


def read(options: TableOptions, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a document, in file order."""
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        for position, row in enumerate(_rows(file, options)):
            key = name if _is_whole(file, options) else f"{name}#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                if not isinstance(row, dict):
                    raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
                column, text = _text(row, options)
                own = row.get("license")
                yield Record(
                    source="documents",
                    split=split,
                    native_id=record_id({} if _kind(file) in TEXTS else row, key, seen),
                    task="text",
                    messages=(Message(role="assistant", content=text),),
                    license=own if isinstance(own, str) and own else options.license or "unknown",
                    extra={k: plain(value) for k, value in row.items() if k != column},
                    file=name,
                )
            except Bad as bad:
                yield refusal("documents", split, name, key, bad)


def _is_whole(file: Path, options: TableOptions) -> bool:
    return _kind(file) in TEXTS and options.unit == "file"


def _text(row: dict[str, Any], options: TableOptions) -> tuple[str, str]:
    told = options.columns.text
    names = (told,) if told else NAMES["text"]
    column = next((name for name in names if name in row), None)
    if column is None:
        raise Bad("missing_field", f"none of the columns {', '.join(names)}")
    if not isinstance(row[column], str):
        raise Bad("wrong_type", f"{column!r} is {row[column]!r:.80}, expected text")
    return column, row[column]


def _rows(file: Path, options: TableOptions) -> Iterable[Any]:
    if _kind(file) in TEXTS:
        return ({"text": text} if isinstance(text, str) else text for text in _texts(file, options))
    if _kind(file) in (".parquet", ".arrow"):
        return table_rows(file, options.columns)
    return read_rows(file)


def _texts(file: Path, options: TableOptions) -> Iterator[str | Bad]:
    """Yield the documents of a text file; one that is not UTF-8 is a `Bad` in its place."""
    data = _content(file).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    parts = {"file": [data], "line": data.split(b"\n"), "blank": data.split(b"\n\n")}[options.unit]
    for part in parts:
        if part.strip() or options.unit == "file":
            try:
                yield part.decode() if options.unit == "file" else part.decode().strip("\n")
            except UnicodeDecodeError as error:
                yield Bad("broken_text", f"not UTF-8 at byte {error.start:,} of {len(part):,}")


def _content(file: Path) -> bytes:
    parts = []
    try:
        with open_unpacked(file) as stream:
            while data := stream.read(1 << 20):
                parts.append(data)
    except CUT_OFF as error:
        raise DataError(
            f"cannot be unpacked: {error}", file=file, fix="download the file again"
        ) from error
    except Refused as refused:
        raise DataError(refused.message, file=file, fix="is it the right file?") from refused
    return b"".join(parts)


def _source(options: TableOptions) -> Source:
    return Source(
        name="documents",
        title="Plain and long documents",
        family="text",
        files=("*.txt, *.md, or *.jsonl or *.parquet with a text column; also .gz and .zst",),
        splits=splits,
        reader=partial(read, options),
        license=options.license or "unknown",
        homepage="https://huggingface.co/datasets/allenai/c4",
        configure=lambda given: _source(
            options_of("documents", given, "unit", columns=("images", "text"))
        ),
    )


DOCUMENTS = _source(TableOptions())
