"""NLVR and NLVR2: a sentence on pictures, true or false -> Record.

Format: https://github.com/lil-lab/nlvr. Labels are texts. The six pictures of an NLVR sentence show the
same boxes in another order, any one of them will do: the first is taken, all are named in `extra`.
Where NLVR2's train pictures lie is as its paper's code has it [unverified].
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    is_conversation_file,
    need,
    relative,
    rest,
    safe,
)
from pipeline.sources.files import json_lines
from pipeline.sources.origin import Origin, hidden, numbered

PERMUTATIONS = 6
_FILE = re.compile(r"[\w.-]+\.jsonl?")
_NLVR2 = re.compile(r"(?P<set>[a-z]+\d?)-[\w-]+-\d+")


def splits(key: str, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file; `balanced_` and `unbalanced_` ones are parts of the others."""
    folders = ("*", "data/*", "data/*/*", "*/*", "nlvr*/data/*", "nlvr*/data/*/*", "nlvr*/*/*")
    files = {file for folder in folders for file in root.glob(f"{folder}.json*") if file.is_file()}
    return {
        file.name.removesuffix(".jsonl").removesuffix(".json"): (file,)
        for file in sorted(files)
        if _FILE.fullmatch(file.name) and is_conversation_file(file, (key,))
    }


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a sentence, in file order."""
    origin = Origin(
        source=source, split=split, file=relative(files[0], root), license=LICENSES[source]
    )
    record = partial(_nlvr2 if source == "nlvr2" else _nlvr, root)
    yield from origin.items(numbered(json_lines(files[0]), "identifier"), record)


def _nlvr2(root: Path, origin: Origin, _: str, row: Any) -> Record:
    identifier = need(row, "identifier", str)
    match = _NLVR2.fullmatch(identifier)
    if match is None:
        raise Bad("bad_identifier", f"{identifier!r:.80} is not SPLIT-SET-PAIR-SENTENCE")
    pair = identifier.rpartition("-")[0]
    folders = [match["set"], f"images/{match['set']}"]
    if "directory" in row:
        folders = [f"images/train/{need(row, 'directory', (int, str))}", *folders]
    names = [f"{pair}-img{side}.png" for side in (0, 1)]
    folder = next((f for f in folders if (root / safe(f"{f}/{names[0]}")).is_file()), folders[0])
    return _said(origin, identifier, [f"{folder}/{name}" for name in names], row, {})


def _nlvr(root: Path, origin: Origin, _: str, row: Any) -> Record:
    identifier = need(row, "identifier", str)
    folder = f"images/{need(row, 'directory', (int, str))}" if "directory" in row else "images"
    beside = Path(origin.file).parent.as_posix()
    paths = [
        f"{beside}/{folder}/{origin.split}-{identifier}-{k}.png".removeprefix("./")
        for k in range(PERMUTATIONS)
    ]
    return _said(origin, identifier, paths[:1], row, {"permutations": paths})


def _said(
    origin: Origin, identifier: str, images: list[str], row: Any, extra: dict[str, Any]
) -> Record:
    return origin.question(
        identifier,
        need(row, "sentence", str),
        images=images,
        target=None if hidden(row, "label") else need(row, "label", str),
        extra=rest(row, "sentence", "label") | extra,
    )


LICENSES = {"nlvr": "CC BY 4.0", "nlvr2": "CC BY 4.0 for the text, pictures of their owners"}
NLVR = Source(
    name="nlvr",
    title="NLVR",
    family="vqa",
    files=("nlvr/{train,dev,test}/*.json", "nlvr/*/images/*/*.png"),
    splits=partial(splits, "structured_rep"),
    reader=partial(read, "nlvr"),
    license=LICENSES["nlvr"],
    homepage="https://lil.nlp.cornell.edu/nlvr",
    note="The first of a sentence's six pictures, which show the same",
    official={"train": 12_409, "dev": 989, "test": 989},
)
NLVR2 = Source(
    name="nlvr2",
    title="NLVR2",
    family="vqa",
    files=(
        "nlvr2/data/{train,dev,test1,test2}.json",
        "images/train/*/*.png, {dev,test1,test2}/*.png",
    ),
    splits=partial(splits, "left_url"),
    reader=partial(read, "nlvr2"),
    license=LICENSES["nlvr2"],
    homepage="https://lil.nlp.cornell.edu/nlvr",
    note="The folders of train pictures are unverified",
    official={"train": 86_373, "dev": 6_982, "test1": 6_967, "test2": 6_970},
)
