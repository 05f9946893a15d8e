"""LSVT, ArT and ReCTS, the ICDAR 2019 challenges on scene text -> Record.

Formats: https://rrc.cvc.uab.es/?ch=16, ?ch=14 and ?ch=12
The form of LSVT's weak labels is not documented beyond "one transcription, no points".
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import Item, Source, first_folder, need, read_json, relative, rest, safe
from pipeline.sources.rows import records
from pipeline.sources.words import outline, page, transcript, word

LICENSE = "RRC portal, research only"
UNREADABLE = "###"
LABELS = {
    "train": "train_labels.json",
    "train_full": "train_full_labels.json",
    "train_weak": "train_weak_labels.json",
    "train_task2": "train_task2_labels.json",
}
FOLDERS = {
    "train": ("train_images",),
    "train_full": ("train_full_images_0", "train_full_images_1"),
    "train_weak": tuple(f"train_weak_images_{number}" for number in range(10)),
    "train_task2": ("train_task2_images",),
}


def splits(wanted: tuple[str, ...], root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the label files of a release as splits."""
    found = {split: root / LABELS[split] for split in wanted}
    return {split: (file,) for split, file in found.items() if file.exists()}


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture of LSVT or ArT, in file order."""
    labels, name = read_json(files[0]), relative(files[0], root)
    if not isinstance(labels, dict):
        raise DataError("no object of pictures", file=files[0], fix="take the official file")
    rows = [{"key": key, "lines": lines} for key, lines in labels.items()]
    record = partial(_record, source, root, split, name)
    yield from records(source, split, name, rows, record, key="key")


def _record(source: str, root: Path, split: str, file: str, position: int, row: Any) -> Record:
    key, lines = row["key"], row["lines"]
    # Weak labels may be one object instead of a list of one.
    listed = [lines] if isinstance(lines, dict) else need(row, "lines", list)
    regions = tuple(_line(line) for line in listed)
    places = [safe(f"{folder}/{key}.jpg") for folder in FOLDERS[split]]
    return page(
        source=source,
        split=split,
        native_id=key,
        image=ImageRef(path=next((p for p in places if (root / p).exists()), places[0])),
        text=transcript(regions),
        regions=regions,
        license=LICENSE,
        extra={},
        file=file,
    )


def _line(line: Any) -> Region:
    text = need(line, "transcription", str)
    polygon = outline(line["points"]) if line.get("points") else None
    return word(
        text,
        polygon=polygon,
        ignore=text == UNREADABLE or line.get("illegibility") is True,
        extra=rest(line, "transcription", "points"),
    )


def rects_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split, `train`, with the folder of labels; `gt_unicode` before `gt`."""
    folder = root / first_folder(root, ("gt_unicode", "gt"), "gt_unicode")
    return {"train": (folder,)} if any(folder.glob("*.json")) else {}


def read_rects(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture of ReCTS: its lines are the text, its characters regions more."""
    for file in sorted(files[0].glob("*.json")):
        name = relative(file, root)
        row = {"key": file.stem, "content": read_json(file)}
        record = partial(_rects, split, name)
        yield from records("rects", split, name, [row], record, key="key")


def _rects(split: str, file: str, position: int, row: Any) -> Record:
    content = need(row, "content", dict)
    levels = {
        level: [_sign(item, level) for item in need(content, f"{level}s", list)]
        for level in ("line", "char")
    }
    return page(
        source="rects",
        split=split,
        native_id=row["key"],
        image=ImageRef(path=f"img/{row['key']}.jpg"),
        text=transcript(levels["line"]),
        regions=levels["line"] + levels["char"],
        license=LICENSE,
        extra=rest(content, "lines", "chars"),
        file=file,
    )


def _sign(item: Any, level: str) -> Region:
    text = need(item, "transcription", str)
    return word(
        text,
        polygon=outline(need(item, "points", list)),
        ignore=text == UNREADABLE or item.get("ignore") == 1,
        extra=rest(item, "transcription", "points", "ignore") | {"level": level},
    )


LSVT = Source(
    name="lsvt",
    title="LSVT (ICDAR 2019)",
    family="ocr",
    files=(
        "train_full_labels.json",
        "train_full_images_{0,1}/gt_*.jpg",
        "train_weak_labels.json",
        "train_weak_images_*/gt_*.jpg",
    ),
    splits=partial(splits, ("train_full", "train_weak")),
    reader=partial(read, "lsvt"),
    license=LICENSE,
    homepage="https://rrc.cvc.uab.es/?ch=16",
    official={"train_full": 30_000, "train_weak": 400_000},
)
ART = Source(
    name="art",
    title="ArT (ICDAR 2019)",
    family="ocr",
    files=(
        "train_labels.json",
        "train_images/gt_*.jpg",
        "train_task2_labels.json",
        "train_task2_images/gt_*_*.jpg",
    ),
    splits=partial(splits, ("train", "train_task2")),
    reader=partial(read, "art"),
    license=LICENSE,
    homepage="https://rrc.cvc.uab.es/?ch=14",
    official={"train": 5_603},
)
RECTS = Source(
    name="rects",
    title="ReCTS (ICDAR 2019)",
    family="ocr",
    files=("gt_unicode/train_ReCTS_*.json", "img/train_ReCTS_*.jpg"),
    splits=rects_splits,
    reader=read_rects,
    license=LICENSE,
    homepage="https://rrc.cvc.uab.es/?ch=12",
    official={"train": 20_000},
)
