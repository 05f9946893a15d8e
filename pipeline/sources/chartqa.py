"""ChartQA questions, human and augmented, with the tables of their charts -> Record.

Formats: https://github.com/vis-nlp/ChartQA and
https://huggingface.co/datasets/HuggingFaceM4/ChartQA
The full release also has `annotations/*.json`; the Parquet files have no tables.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, need, read_json, read_rows, relative, rest, safe
from pipeline.sources.parquet import parquet_rows
from pipeline.sources.rows import as_text, asked, read_text, records

SETS = ("human", "augmented")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> questions and tables; the root is the release's folder, or the one around it."""
    inner = root / "ChartQA Dataset"
    home = inner if inner.is_dir() else root
    found: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "val", "test"):
        folder = home / split
        questions = [folder / f"{split}_{name}.json" for name in SETS]
        joined = (folder / "tables", folder / "annotations")
        shards = sorted(root.glob(f"data/{split}-*.parquet"))
        if files := [file for file in questions if file.exists()]:
            found[split] = (*files, *(place for place in joined if place.is_dir()))
        elif shards:
            found[split] = tuple(shards)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, in file order, human questions first."""
    for file in files:
        name = relative(file, root)
        if file.suffix == ".parquet":
            record = partial(_of_shard, split, name)
            yield from records("chartqa", split, name, parquet_rows(root, file), record, key="#")
        elif file.suffix == ".json":
            record = partial(_of_release, root, split, file)
            yield from records("chartqa", split, name, read_rows(file), record, key="#")


def _of_release(root: Path, split: str, file: Path, position: int, row: Any) -> Record:
    name = safe(need(row, "imgname", str))
    asker, stem = file.stem.rpartition("_")[2], name.rpartition(".")[0]
    extra: dict[str, Any] = {"human_or_augmented": asker}
    if (table := file.parent / "tables" / f"{stem}.csv").exists():
        extra["table"] = read_text(table)
    if (annotation := file.parent / "annotations" / f"{stem}.json").exists():
        extra["annotation"] = read_json(annotation)
    image = ImageRef(path=relative(file.parent / "png" / name, root))
    return _record(split, relative(file, root), f"{asker}#{position}", image, row, extra)


def _of_shard(split: str, file: str, position: int, row: Any) -> Record:
    image, stem = need(row, "image", ImageRef), Path(file).stem
    return _record(split, file, f"{stem}#{position}", image, rest(row, "image"), {})


def _record(
    split: str, file: str, key: str, image: ImageRef, row: dict[str, Any], extra: dict[str, Any]
) -> Record:
    question, label = need(row, "query", str), need(row, "label", (str, int, float, list))
    # The release has one text, the Parquet files a list of references.
    answers = tuple(as_text(answer) for answer in (label if isinstance(label, list) else [label]))
    return Record(
        source="chartqa",
        split=split,
        native_id=key,
        task="vqa",
        images=(image,),
        messages=asked(question, answers[0] if answers else None),
        answers=answers,
        license="GPL-3.0",
        extra=rest(row, "query", *(["label"] if isinstance(label, str) else [])) | extra,
        file=file,
    )


CHARTQA = Source(
    name="chartqa",
    title="ChartQA",
    family="ocr",
    files=(
        "ChartQA Dataset/{train,val,test}/{train,val,test}_{human,augmented}.json",
        "ChartQA Dataset/{train,val,test}/png/*.png",
        "ChartQA Dataset/{train,val,test}/tables/*.csv",
        "or data/{train,val,test}-*.parquet",
    ),
    splits=splits,
    reader=read,
    license="GPL-3.0",
    homepage="https://github.com/vis-nlp/ChartQA",
    official={"train": 28_299, "val": 1_920, "test": 2_500},
)
