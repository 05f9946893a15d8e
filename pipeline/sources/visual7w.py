"""Visual7W questions: telling, answered by a text, and pointing, answered by a box -> Record.

Format: https://github.com/yukezhu/visual7w-toolkit. Only the three wrong choices are listed: the right
one is put among them at a place that hangs on `qa_id`. Choices of pointing are ids of boxes, which stand
in the same file or in the one of the grounding annotations.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.record import Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, need, relative, rest
from pipeline.sources.files import listed, read_object, split_names
from pipeline.sources.origin import Origin, letter, nested, numbered, of_split

TASKS = ("telling", "pointing")
GROUNDING = "dataset_v7w_grounding_annotations.json"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split, such as `pointing_val`, -> (questions,) or (questions, boxes)."""
    found: dict[str, tuple[Path, ...]] = {}
    for task in TASKS:
        file, boxes = root / f"dataset_v7w_{task}.json", root / GROUNDING
        if file.exists():
            files = (file, boxes) if task == "pointing" and boxes.exists() else (file,)
            found |= {f"{task}_{split}": files for split in split_names(file)}
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture, in file order."""
    task, _, own = split.partition("_")
    content = read_object(files[0])
    boxes: dict[object, Any] = {}
    if task == "pointing":
        for file, head in [(file, read_object(file)) for file in files[1:]] + [(files[0], content)]:
            boxes |= numbered(listed(head, "boxes", file) if "boxes" in head else (), "box_id")

    def record(origin: Origin, key: str, pair: tuple[Any, Any]) -> Record:
        image, qa = pair
        number = need(qa, "qa_id", int)
        wrong, right = need(qa, "multiple_choices", list), need(qa, "answer", (str, int))
        index = place(number, len(wrong) + 1)
        choices = [*wrong[:index], right, *wrong[index:]]
        extra = rest(image, "qa_pairs") | rest(qa, "question", "answer", "multiple_choices")
        make = _pointing if task == "pointing" else _telling
        return make(origin, str(number), choices, index, image, qa, boxes, extra)

    origin = Origin(
        source="visual7w", split=split, file=relative(files[0], root), license=VISUAL7W.license
    )
    known = [name.partition("_")[2] for name in splits(root) if name.startswith(task)]
    rows = of_split(numbered(listed(content, "images", files[0]), "image_id"), own, known)
    yield from origin.items(nested(rows, "qa_pairs", "qa_id"), record)


def place(qa_id: int, choices: int) -> int:
    """Return where the right choice stands among all; the same in every run.

    >>> [place(qa_id, 4) for qa_id in range(700, 708)]
    [1, 1, 0, 2, 3, 1, 1, 1]
    """
    return int.from_bytes(hashlib.sha256(f"visual7w/{qa_id}".encode()).digest()[:8]) % choices


def _telling(
    origin: Origin,
    key: str,
    choices: list[Any],
    index: int,
    image: Mapping[str, Any],
    qa: Mapping[str, Any],
    boxes: Mapping[object, Any],
    extra: Mapping[str, Any],
) -> Record:
    return origin.question(
        key,
        need(qa, "question", str),
        images=[f"images/{need(image, 'filename', str)}"],
        choices=[need({"multiple_choices": choice}, "multiple_choices", str) for choice in choices],
        answer_index=index,
        extra=extra,
    )


def _pointing(
    origin: Origin,
    key: str,
    choices: list[Any],
    index: int,
    image: Mapping[str, Any],
    qa: Mapping[str, Any],
    boxes: Mapping[object, Any],
    extra: Mapping[str, Any],
) -> Record:
    return origin.question(
        key,
        need(qa, "question", str),
        images=[f"images/{need(image, 'filename', str)}"],
        target=f"{letter(index)}. {region_mark(index)}",
        choices=[str(choice) for choice in choices],
        shown=[region_mark(k) for k in range(len(choices))],
        answer_index=index,
        regions=[_region(choice, boxes) for choice in choices],
        extra=extra,
    )


def _region(choice: Any, boxes: Mapping[object, Any]) -> Region:
    box = boxes.get(need({"box_id": choice}, "box_id", int))
    if box is None:
        raise Bad("no_box", f"no box {choice} in the file, nor in {GROUNDING}")
    x, y, width, height = (
        float(need(box, key, (int, float))) for key in ("x", "y", "width", "height")
    )
    return Region(
        label=need(box, "name", str),
        box=(x, y, x + width, y + height),
        extra=rest(box, "name", "x", "y", "width", "height"),
    )


VISUAL7W = Source(
    name="visual7w",
    title="Visual7W",
    family="vqa",
    files=(
        "dataset_v7w_{telling,pointing}.json",
        GROUNDING,
        "images/v7w_*.jpg",
    ),
    splits=splits,
    reader=read,
    license="MIT for the toolkit, pictures of COCO",
    homepage="https://ai.stanford.edu/~yukez/visual7w",
    unverified=("telling_train", "telling_test", "pointing_train", "pointing_test"),
    official={
        "telling_train": 69_817,
        "telling_val": 28_020,
        "telling_test": 42_031,
        "pointing_train": 93_813,
        "pointing_val": 36_990,
        "pointing_test": 57_265,
    },
    note="Of pointing, choices are boxes; the right choice stands where `qa_id` says",
)
