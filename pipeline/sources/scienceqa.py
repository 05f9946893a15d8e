"""ScienceQA problems, with a picture or with text alone -> Record.

Format: https://github.com/lupantech/ScienceQA. The hint is the passage a question is about and stands
in front of it. Pictures of choices, which `problems.json` does not name, stand at their choices.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import IMAGE, Record
from pipeline.sources.base import Item, Source, first_folder, need, relative, rest, safe
from pipeline.sources.files import read_object, split_names
from pipeline.sources.origin import Origin, chosen, hidden, of_split
from pipeline.sources.rows import texts


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (problems, and where there: their further splits, captions of pictures)."""
    folder = root / first_folder(root, ("data/scienceqa", "scienceqa"), ".")
    problems = folder / "problems.json"
    if not problems.exists():
        return {}
    beside = (folder / "pid_splits.json", folder / "captions.json", folder.parent / "captions.json")
    files = (problems, *(file for file in beside if file.exists() and root in file.parents))
    return dict.fromkeys(split_names(problems), files)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a problem, in file order."""
    beside = {file.name: read_object(file) for file in files[1:]}
    subsets = _subsets(beside.get("pid_splits.json", {}))
    captions = beside.get("captions.json", {}).get("captions", {})
    if not isinstance(captions, dict):
        raise DataError("'captions' is no object", file=files[-1], fix="take the official file")

    def record(origin: Origin, key: str, row: Any) -> Record:
        choices = texts(row, "choices")
        folder = f"{relative(files[0].parent / 'images', root)}/{split}/{key}"
        image = None if hidden(row, "image") else need(row, "image", str)
        drawn = [safe(f"{folder}/choice_{k}.png") for k in range(len(choices))]
        pictured = [(root / path).is_file() for path in drawn]
        extra = rest(row, "question", "choices", "answer")
        if key in subsets:
            extra["splits"] = subsets[key]
        if key in captions:
            extra["caption"] = captions[key]
        question = need(row, "question", str)
        return origin.question(
            key,
            question if hidden(row, "hint") else f"{need(row, 'hint', str)}\n{question}",
            images=[f"{folder}/{image}"] * (image is not None)
            + [path for path, there in zip(drawn, pictured, strict=True) if there],
            choices=choices,
            shown=[
                f"{IMAGE} {choice}" if there else choice
                for choice, there in zip(choices, pictured, strict=True)
            ],
            answer_index=None if hidden(row, "answer") else chosen(row, "answer", choices),
            extra=extra,
        )

    origin = Origin(
        source="scienceqa", split=split, file=relative(files[0], root), license=SCIENCEQA.license
    )
    rows = of_split(read_object(files[0]).items(), split, list(splits(root)))
    yield from origin.items(rows, record)


def _subsets(splits: dict[str, Any]) -> dict[str, list[str]]:
    """
    >>> _subsets({"train": ["1", "2"], "minitrain": ["2"]})
    {'1': ['train'], '2': ['train', 'minitrain']}
    """
    names: dict[str, list[str]] = {}
    for split, pids in splits.items():
        for pid in pids if isinstance(pids, list) else ():
            names.setdefault(str(pid), []).append(split)
    return names


SCIENCEQA = Source(
    name="scienceqa",
    title="ScienceQA",
    family="vqa",
    files=(
        "data/scienceqa/problems.json",
        "data/scienceqa/pid_splits.json",
        "data/captions.json",
        "data/scienceqa/images/{train,val,test}/*/*.png",
    ),
    splits=splits,
    reader=read,
    license="CC BY-NC-SA 4.0",
    homepage="https://scienceqa.github.io",
    official={"train": 12_726, "val": 4_241, "test": 4_241},
    note="Text-only questions are records without pictures",
)
