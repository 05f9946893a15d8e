"""WikiTableQuestions: questions on tables of Wikipedia -> Record.

Format: https://github.com/ppasupat/WikiTableQuestions
Without the folder `csv` the questions are read alone, and nothing is learnt of them.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import Message, Record
from pipeline.sources.base import Bad, Item, Source, need, relative, rest, safe
from pipeline.sources.delimited import as_table, lines_of, tsv_rows
from pipeline.sources.rows import read_text, records

HEADER = ["id", "utterance", "context", "targetValue"]
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "p": "|", "\\": "\\"}


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each question file as a split of its own, named by its stem, with the tables."""
    files = sorted([*root.glob("data/*.tsv"), *root.glob("*.tsv")])
    tables = (root / "csv",) if (root / "csv").is_dir() else ()
    return {file.stem: (file, *tables) for file in files if _is_questions(file)}


def _is_questions(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.readline(1000).strip().split(b"\t") == [cell.encode() for cell in HEADER]


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order."""
    rows, name = tsv_rows(files[0]), relative(files[0], root)
    return records(
        "wikitablequestions", split, name, rows, partial(_record, root, split, name), key="id"
    )


def _record(root: Path, split: str, file: str, position: int, row: Any) -> Record:
    question = unescaped(need(row, "utterance", str))
    # The parts of an answer are separated before they are unescaped: `\\p` is a bar inside one.
    parts = [unescaped(part) for part in need(row, "targetValue", str).split("|")]
    table = _table(root, need(row, "context", str))
    # The `.tsv` has non-breaking blanks where the `.csv`, and the questions, have plain ones.
    shown = (table or "").replace("\u00a0", " ")
    cells = [[unescaped(cell) for cell in line.split("\t")] for line in lines_of(shown)]
    answer = ", ".join(parts)
    return Record(
        source="wikitablequestions",
        split=split,
        native_id=row["id"],
        task="text",
        messages=(
            Message(role="user", content="\n".join([*as_table(cells), question])),
            Message(role="assistant", content=answer, loss=False if table is None else None),
        ),
        answers=(answer,),
        license="CC BY-SA 4.0",
        extra=rest(row, "id") | {"table": table},
        file=file,
    )


def unescaped(text: str) -> str:
    """Return a cell of the `.tsv` files as it reads.

    >>> unescaped("a\\\\nb\\\\p\\\\\\\\n")
    'a\\nb|\\\\n'
    """
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)


def _table(root: Path, context: str) -> str | None:
    """Return the text of a table: of the `.tsv` beside the `.csv`, which is escaped more simply."""
    if not context.startswith("csv/") or not context.endswith(".csv"):
        raise Bad("bad_context", f"'context' is {context!r:.80}, expected csv/*/*.csv")
    file = root / safe(f"{context.removesuffix('.csv')}.tsv")
    if not (root / "csv").is_dir():
        return None
    if not file.is_file():
        raise Bad("missing_file", f"there is no table {relative(file, root)}")
    return read_text(file)


WIKITABLEQUESTIONS = Source(
    name="wikitablequestions",
    title="WikiTableQuestions",
    family="ocr",
    files=(
        "data/{training,pristine-unseen-tables,pristine-seen-tables,...}.tsv",
        "csv/*-csv/*.tsv",
    ),
    splits=splits,
    reader=read,
    license="CC BY-SA 4.0",
    homepage="https://github.com/ppasupat/WikiTableQuestions",
    official={
        "training": 14_152,
        "pristine-unseen-tables": 4_344,
        "pristine-seen-tables": 3_537,
    },
)
