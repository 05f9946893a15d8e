"""RealCQA: questions on charts of scientific papers, and the charts' annotations -> Record.

Format: https://github.com/cse-ai-lab/RealCQA
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, need, read_json, read_rows, relative, rest, safe
from pipeline.sources.rows import as_text, asked, read_text, records
from pipeline.sources.words import page

LICENSE = "GPL-3.0"
LISTED = "test_filenames.txt"
FOLDERS = {"qa": "", "json": "_json"}
"""Folder -> what the names of its splits end in."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return `train` and `test`, the folder of questions; `train_json`, ..., that of annotations.

    Charts named in `test_filenames.txt` are `test`; without it all are `train`.
    """
    listed = (root / LISTED,) if (root / LISTED).exists() else ()
    found: dict[str, tuple[Path, ...]] = {}
    for folder, suffix in FOLDERS.items():
        charts = {split: _charts(root, folder, split) for split in ("train", "test")}
        home = (root / folder,) if (root / folder).is_dir() else charts["train"]
        found |= {s + suffix: (*home, *listed) for s, files in charts.items() if files}
    return found


def _charts(root: Path, folder: str, split: str) -> tuple[Path, ...]:
    """Return a split's files of one folder, a file for each chart."""
    names = read_text(root / LISTED).split() if (root / LISTED).exists() else []
    test = {Path(name).stem for name in names}
    files = sorted([*root.glob(f"{folder}/*.json"), *root.glob(f"{folder}_*.json")])
    return tuple(file for file in files if (file.stem in test) == (split == "test"))


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, or a chart, in file order."""
    folder = "json" if split.endswith(FOLDERS["json"]) else "qa"
    for file in _charts(root, folder, split.removesuffix(FOLDERS["json"])):
        name = relative(file, root)
        if folder == "json":
            rows: Any = [{"json": read_json(file)}]
            record = partial(_chart, split, name, file.stem)
        else:
            rows = read_rows(file)
            record = partial(_question, split, name, file.stem)
        yield from records("realcqa", split, name, rows, record, key="qa_id")


def _question(split: str, file: str, chart: str, position: int, row: Any) -> Record:
    key, question = need(row, "qa_id", (str, int)), need(row, "question", str)
    answer = need(row, "answer", (str, int, float, list))
    text = as_text(answer)
    return Record(
        source="realcqa",
        split=split,
        native_id=str(key),
        task="vqa",
        images=(_image(row.get("PMC_ID", chart)),),
        messages=asked(question, text),
        answers=(text,),
        license=LICENSE,
        # Lists and numbers are scored by their own rules: they are kept as given.
        extra=rest(row, "question", *(["answer"] if isinstance(answer, str) else [])),
        file=file,
    )


def _chart(split: str, file: str, chart: str, position: int, row: Any) -> Record:
    return page(
        source="realcqa",
        split=split,
        native_id=chart,
        image=_image(chart),
        text=None,
        regions=(),
        license=LICENSE,
        extra=row,
        file=file,
    )


def _image(chart: Any) -> ImageRef:
    return ImageRef(path=safe(f"images/{need({'PMC_ID': chart}, 'PMC_ID', str)}.jpg"))


REALCQA = Source(
    name="realcqa",
    title="RealCQA",
    family="ocr",
    files=("qa/*.json", "json/*.json", "images/*.jpg", "test_filenames.txt"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/cse-ai-lab/RealCQA",
    official={"test": 367_139},
)
