"""Kleister Charity and Kleister NDA: values to find in long documents -> Record.

Formats: https://github.com/applicaai/kleister-charity and
https://github.com/applicaai/kleister-nda
The text is the best of the release's text layers; the others stand in `extra`.
"""

import lzma
import re
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import Message, Record
from pipeline.sources.base import Bad, Item, Source, relative, rest
from pipeline.sources.pairs import written
from pipeline.sources.rows import read_text, records

COLUMNS = ("filename", "keys", "text_djvu", "text_tesseract", "text_textract", "text_best")
MAX_BYTES = 256 * 1024**2
"""Largest document, its text layers together, in bytes."""
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "f": "\f", "r": "\r", "v": "\v", "\\": "\\"}
TERMS = "research only"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (documents,), or (documents, what is expected)."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "dev-0", "test-A"):
        folder = root / split
        documents = next((f for f in (folder / "in.tsv.xz", folder / "in.tsv") if f.exists()), None)
        expected = folder / "expected.tsv"
        if documents:
            found[split] = (documents, expected) if expected.exists() else (documents,)
    return found


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a document, in file order: line i of both files is one document."""
    name = relative(files[0], root)
    # An empty line of what is expected is an answer: only the last line feed ends the file.
    expected = read_text(files[1]).removesuffix("\n").split("\n") if len(files) > 1 else None
    pairs = zip_longest(_lines(files[0]), expected or ())
    rows = ({"line": line, "expected": answer} for line, answer in pairs)
    record = partial(_record, source, split, name, expected is not None)
    return records(source, split, name, rows, record, key="#")


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines of `in.tsv`, packed or not.

    Raises:
        DataError: the file is cut off, not UTF-8, or a line of it is too long.
    """
    try:
        with lzma.open(file) if file.suffix == ".xz" else file.open("rb") as stream:
            while line := stream.readline(MAX_BYTES + 1):
                if len(line) > MAX_BYTES:
                    raise DataError(
                        f"a document of more than {MAX_BYTES:,} bytes",
                        file=file,
                        fix="take the official file",
                    )
                yield line.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise DataError(str(error), file=file, fix="download the file again") from error


def _record(source: str, split: str, file: str, answered: bool, position: int, row: Any) -> Record:
    if row["line"] is None or (answered and row["expected"] is None):
        raise Bad("no_annotation", "in.tsv and expected.tsv have different numbers of lines")
    cells = row["line"].split("\t")
    if len(cells) != len(COLUMNS):
        raise Bad("broken_row", f"{len(cells)} cells, expected {', '.join(COLUMNS)}")
    document = dict(zip(COLUMNS, cells, strict=True))
    text = unescaped(document["text_best"])
    messages = [Message(role="user", content=f"{text}\n{document['keys']}")]
    expected = (row["expected"] or "").removesuffix("\r")
    answer = written(_pair(item) for item in expected.split())
    if answer is not None:
        messages.append(Message(role="assistant", content=answer))
    extra = rest(document, "filename", "text_best") | {
        "document": f"documents/{document['filename']}"
    }
    return Record(
        source=source,
        split=split,
        native_id=document["filename"],
        task="text",
        messages=tuple(messages),
        answers=((answer,) if answer else ()) if answered else None,
        license=TERMS,
        extra=extra | ({"expected": expected} if answered else {}),
        file=file,
    )


def _pair(item: str) -> tuple[str, str]:
    """Return the key and the value of one item; a value's underscores stand for spaces.

    >>> _pair("charity_name=Cat_Club")
    ('charity_name', 'Cat Club')
    """
    key, equals, value = item.partition("=")
    if not equals:
        raise Bad("broken_row", f"{item!r:.80} is not key=value")
    return key, value.replace("_", " ")


def unescaped(text: str) -> str:
    """Return a text with its line breaks and tabs.

    >>> unescaped("a\\\\nb\\\\\\\\n")
    'a\\nb\\\\n'
    """
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)


def _source(name: str, title: str, official: dict[str, int]) -> Source:
    return Source(
        name=name,
        title=title,
        family="ocr",
        files=(
            "{train,dev-0,test-A}/in.tsv.xz",
            "{train,dev-0}/expected.tsv",
            "documents/*.pdf",
        ),
        splits=splits,
        reader=partial(read, name),
        license=TERMS,
        homepage=f"https://github.com/applicaai/{name.replace('_', '-')}",
        official=official,
    )


KLEISTER_CHARITY = _source(
    "kleister_charity", "Kleister Charity", {"train": 1_729, "dev-0": 440, "test-A": 609}
)
KLEISTER_NDA = _source("kleister_nda", "Kleister NDA", {"train": 254, "dev-0": 83, "test-A": 203})
