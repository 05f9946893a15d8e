"""KVQA: questions on people in a picture that need knowledge of the world -> Record.

Format: http://malllabiisc.github.io/resources/kvqa. A picture has parallel lists of questions,
paraphrases and answers; the first of its five folds says its split.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Bad, Item, Source, need, relative, rest
from pipeline.sources.files import read_entries
from pipeline.sources.origin import Keyed, Origin
from pipeline.sources.rows import as_text

FOLDS = {"train": 1, "val": 2, "test": 3}
PARALLEL = ("Questions", "ParaQuestions", "Answers", "Type of Question")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the three splits, which one file holds."""
    file = root / "dataset.json"
    return dict.fromkeys(FOLDS, (file,)) if file.exists() else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture, in file order."""
    origin = Origin(source="kvqa", split=split, file=relative(files[0], root), license=KVQA.license)
    yield from origin.items(_questions(files[0], split), _record)


def _questions(file: Path, split: str) -> Iterator[Keyed]:
    """Yield (picture, question's place) of the pictures of a split."""
    for key, row in read_entries(file):
        try:
            folds = need(row, "split", list)
            if not folds or folds[0] not in FOLDS.values():
                raise Bad("unknown_split", f"'split' is {folds!r:.80}, expected 1, 2 or 3 first")
            if folds[0] != FOLDS[split]:
                continue
            questions, answers = need(row, "Questions", list), need(row, "Answers", list)
            if len(questions) != len(answers):
                lengths = f"{len(questions)} questions, {len(answers)} answers"
                raise Bad("unequal_lists", lengths)
        except Bad as bad:
            # What has no split is refused once.
            if bad.reason == "unequal_lists" or split == "train":
                yield key, bad
            continue
        for number in range(len(questions)):
            yield f"{key}/{number}", (row, number)


def _record(origin: Origin, key: str, pair: tuple[dict[str, Any], int]) -> Record:
    picture, number = pair
    length = len(picture["Questions"])
    parallel = [
        name
        for name in PARALLEL
        if isinstance(picture.get(name), list) and len(picture[name]) <= length
    ]
    own = {
        name: picture[name][number]
        for name in parallel
        if name not in ("Questions", "Answers") and number < len(picture[name])
    }
    return origin.question(
        key,
        need({"Questions": picture["Questions"][number]}, "Questions", str),
        images=[need(picture, "imgPath", str)],
        target=as_text(picture["Answers"][number]),
        extra=rest(picture, *parallel) | own,
    )


KVQA = Source(
    name="kvqa",
    title="KVQA",
    family="vqa",
    files=("dataset.json", "KVQAimgs/*"),
    splits=splits,
    reader=read,
    license="research only, pictures of Wikimedia Commons",
    homepage="http://malllabiisc.github.io/resources/kvqa",
    note="Splits are those of the first of five folds",
)
