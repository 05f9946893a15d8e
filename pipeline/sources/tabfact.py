"""TabFact: statements that a table entails or refutes -> Record.

Format: https://github.com/wenhuchen/Table-Fact-Checking
Without the folder `data/all_csv` the statements are read alone, and nothing is learnt of them.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import Message, Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    need,
    read_json,
    refusal,
    relative,
    safe,
)
from pipeline.sources.delimited import as_table, lines_of
from pipeline.sources.rows import read_text, records

LABELS = ("refuted", "entailed")
TABLES = "data/all_csv"
FILES = {
    "train": "tokenized_data/train_examples.json",
    "val": "tokenized_data/val_examples.json",
    "test": "tokenized_data/test_examples.json",
    "r1_training_all": "collected_data/r1_training_all.json",
    "r2_training_all": "collected_data/r2_training_all.json",
}
"""Split -> file; the last two hold the training statements as they were written."""
SUBSETS = ("simple_test", "complex_test", "small_test")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its statements, and the tables."""
    found = {split: root / name for split, name in FILES.items()}
    tables = (root / TABLES,) if (root / TABLES).is_dir() else ()
    return {split: (file, *tables) for split, file in found.items() if file.exists()}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a statement, table by table."""
    tables, name = read_json(files[0]), relative(files[0], root)
    if not isinstance(tables, dict):
        raise DataError("no object of tables", file=files[0], fix="take the official file")
    subsets = _subsets(root) if split == "test" else {}
    for key, value in tables.items():
        try:
            given = need({key: value}, key, list)
            if len(given) != 3:
                raise Bad("wrong_type", f"{len(given)} parts, expected statements, labels, caption")
            statements, labels, caption = given
            if not isinstance(statements, list) or not isinstance(labels, list):
                raise Bad("wrong_type", "statements and labels are not two lists")
            if len(statements) != len(labels):
                raise Bad("unequal_lists", f"{len(statements)} statements, {len(labels)} labels")
            table = _table(root, key)
        except Bad as bad:
            yield refusal("tabfact", split, name, key, bad)
            continue
        rows = [
            {"key": f"{key}#{i}", "statement": statement, "label": label, "caption": caption}
            for i, (statement, label) in enumerate(zip(statements, labels, strict=True))
        ]
        extra = {"table_file": f"{TABLES}/{key}", "table": table, "subsets": subsets.get(key, [])}
        yield from records(
            "tabfact", split, name, rows, partial(_record, split, name, extra), key="key"
        )


def _subsets(root: Path) -> dict[Any, list[str]]:
    """Return table -> the subsets of the test split it is in."""
    found: defaultdict[Any, list[str]] = defaultdict(list)
    for subset in SUBSETS:
        file = root / "data" / f"{subset}_id.json"
        names = read_json(file) if file.exists() else []
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str):
                found[name].append(subset)
    return found


def _table(root: Path, key: str) -> str | None:
    """Return a table's file as text."""
    if not (root / TABLES).is_dir():
        return None
    file = root / TABLES / safe(key)
    if not file.is_file():
        raise Bad("missing_file", f"there is no table {TABLES}/{key}")
    return read_text(file)


def _record(split: str, file: str, extra: dict[str, Any], position: int, row: Any) -> Record:
    statement, label = need(row, "statement", str), need(row, "label", int)
    caption = need(row, "caption", str)
    if label not in (0, 1):
        raise Bad("bad_answer", f"the label is {label}, expected 1 (entailed) or 0 (refuted)")
    cells = [line.split("#") for line in lines_of(extra["table"] or "")]
    text = "\n".join([caption, *as_table(cells), statement])
    return Record(
        source="tabfact",
        split=split,
        native_id=row["key"],
        task="text",
        messages=(
            Message(role="user", content=text),
            Message(
                role="assistant",
                content=LABELS[label],
                loss=False if extra["table"] is None else None,
            ),
        ),
        answers=(LABELS[label],),
        choices=LABELS,
        answer_index=label,
        license="MIT",
        extra={"caption": caption, "statement": statement, **extra},
        file=file,
    )


TABFACT = Source(
    name="tabfact",
    title="TabFact",
    family="ocr",
    files=(
        "tokenized_data/{train,val,test}_examples.json",
        "data/all_csv/*.html.csv",
        "collected_data/r{1,2}_training_all.json",
    ),
    splits=splits,
    reader=read,
    license="MIT",
    homepage="https://github.com/wenhuchen/Table-Fact-Checking",
    official={"train": 92_283, "val": 12_792, "test": 12_779},
)
