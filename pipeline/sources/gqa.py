"""GQA questions, in one file a split or in a folder of shards -> Record.

Format: https://cs.stanford.edu/people/dorarad/gqa/download.html. The `all` splits hold the `balanced`
ones (`isBalanced`): take one of the two.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Item, Source, need, relative, rest
from pipeline.sources.files import read_entries
from pipeline.sources.origin import Origin, hidden

SPLITS = ("train", "val", "testdev", "test", "challenge", "submission")
_NAME = re.compile(rf"(?P<split>(?:{'|'.join(SPLITS)})_(?:all|balanced))_questions(?:_\d+)?\.json")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split, such as `train_balanced`, -> its file or its shards."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted([*root.glob("*.json"), *root.glob("*_questions/*.json")]):
        if match := _NAME.fullmatch(file.name):
            found[match["split"]] = (*found.get(match["split"], ()), file)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, shard by shard, in file order."""
    for file in files:
        origin = Origin(source="gqa", split=split, file=relative(file, root), license="CC BY 4.0")
        yield from origin.items(read_entries(file), _record)


def _record(origin: Origin, key: str, row: Any) -> Record:
    return origin.question(
        key,
        need(row, "question", str),
        images=[f"images/{need(row, 'imageId', str)}.jpg"],
        target=None if hidden(row, "answer") else need(row, "answer", str),
        extra=rest(row, "question", "answer"),
    )


GQA = Source(
    name="gqa",
    title="GQA",
    family="vqa",
    files=(
        "{train,val,testdev,test,challenge,submission}_{all,balanced}_questions.json",
        "or train_all_questions/train_all_questions_*.json",
        "images/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://cs.stanford.edu/people/dorarad/gqa",
    official={
        "train_all": 14_305_356,
        "train_balanced": 943_000,
        "val_all": 2_011_853,
        "val_balanced": 132_062,
        "testdev_all": 172_174,
        "testdev_balanced": 12_578,
    },
    note="`all` splits hold the `balanced` ones: take one of the two",
)
