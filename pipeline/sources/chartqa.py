"""ChartQA questions, human and augmented, with the tables of their charts -> Record.

Format: https://github.com/vis-nlp/ChartQA
The full release also has `annotations/*.json`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, need, read_json, read_rows, relative, rest, safe
from pipeline.sources.rows import as_text, asked, read_text, records

SETS = ("human", "augmented")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> questions and tables; the root is the release's folder, or the one around it."""
    found: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "val", "test"):
        folder = _folder(root) / split
        files = tuple(f for name in SETS if (f := folder / f"{split}_{name}.json").exists())
        if files:
            joined = (folder / "tables", folder / "annotations")
            found[split] = (*files, *(f for f in joined if f.is_dir()))
    return found


def _folder(root: Path) -> Path:
    inner = root / "ChartQA Dataset"
    return inner if inner.is_dir() else root


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order, human questions first."""
    for file in files:
        if file.is_dir():  # tables and annotations are joined to their questions
            continue
        record = partial(_record, root, split, file)
        yield from records("chartqa", split, relative(file, root), read_rows(file), record, key="#")


def _record(root: Path, split: str, file: Path, position: int, row: Any) -> Record:
    question, name = need(row, "query", str), safe(need(row, "imgname", str))
    label = need(row, "label", (str, int, float, list))
    asker = file.stem.rpartition("_")[2]
    extra = rest(row, "query", *(["label"] if isinstance(label, str) else []))
    stem = name.rpartition(".")[0]
    if (table := file.parent / "tables" / f"{stem}.csv").exists():
        extra["table"] = read_text(table)
    if (annotation := file.parent / "annotations" / f"{stem}.json").exists():
        extra["annotation"] = read_json(annotation)
    # The release has one text; exports have a list of references.
    answers = tuple(as_text(answer) for answer in (label if isinstance(label, list) else [label]))
    return Record(
        source="chartqa",
        split=split,
        native_id=f"{asker}#{position}",
        task="vqa",
        images=(ImageRef(path=relative(file.parent / "png" / name, root)),),
        messages=asked(question, answers[0] if answers else None),
        answers=answers,
        license="GPL-3.0",
        extra=extra | {"human_or_augmented": asker},
        file=relative(file, root),
    )


CHARTQA = Source(
    name="chartqa",
    title="ChartQA",
    family="ocr",
    files=(
        "ChartQA Dataset/{train,val,test}/{train,val,test}_{human,augmented}.json",
        "ChartQA Dataset/{train,val,test}/png/*.png",
        "ChartQA Dataset/{train,val,test}/tables/*.csv",
    ),
    splits=splits,
    reader=read,
    license="GPL-3.0",
    homepage="https://github.com/vis-nlp/ChartQA",
    official={"train": 28_299, "val": 1_920, "test": 2_500},
)
