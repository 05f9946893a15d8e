"""Visual Dialog: rounds of questions and answers on a picture -> Record, one a dialog.

Format: https://visualdialog.org/data. Questions, answers and the 100 options of each round are indices
into shared pools. The caption is what the dialog starts from, and stands before the first question. The
last round is the one to judge: its options are `choices`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog.record import Message, Record
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest
from pipeline.sources.coco import picture
from pipeline.sources.files import listed, read_object
from pipeline.sources.origin import Origin, chosen, hidden, numbered

_NAME = re.compile(r"visdial_(?P<version>\d\.\d)_(?P<split>train|val|test)\.json")
NEWEST = "1.0"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (dialogs,) or (dialogs, dense annotations); of v0.9: `0.9_train`, `0.9_val`."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted(root.glob("visdial_*.json")):
        if match := _NAME.fullmatch(file.name):
            old = "" if match["version"] == NEWEST else f"{match['version']}_"
            dense = sorted(root.glob(f"{file.stem}_dense*.json"))
            found[old + match["split"]] = (file, *dense[:1])
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a dialog, in file order; then a refusal for each unmatched dense annotation."""
    content = read_object(files[0])
    data = content["data"] if isinstance(content.get("data"), dict) else {}
    pools = {key: listed(data, key, files[0]) for key in ("questions", "answers")}
    subtype = content.get("split")
    dense = {key: row for file in files[1:] for key, row in numbered(read_rows(file), "image_id")}

    def record(origin: Origin, key: str, row: Any) -> Record:
        image_id = need(row, "image_id", int)
        rounds = [_round(each, pools) for each in need(row, "dialog", list)]
        if not rounds:
            raise Bad("no_rounds", "the dialog has no round")
        last = rounds[-1]
        options = last.get("answer_options", ())
        index = None if hidden(last, "gt_index") else chosen(last, "gt_index", options)
        extra = rest(row, "dialog", "caption") | {"dialog": rounds}
        if (relevance := dense.pop(image_id, None)) is not None:
            extra["dense"] = relevance
        record = origin.question(
            str(image_id),
            need(row, "caption", str),
            images=[_image(root, subtype, image_id)],
            answers=None if hidden(last, "answer") else (last["answer"],),
            choices=options,
            shown=(),
            answer_index=index,
            extra=extra,
        )
        return replace(record, messages=_turns(record.messages[0].content, rounds))

    origin = Origin(
        source="visdial", split=split, file=relative(files[0], root), license="CC BY 4.0"
    )
    yield from origin.items(numbered(listed(data, "dialogs", files[0]), "image_id"), record)
    for key in dense:
        alone = Bad("no_dialog", f"no dialog in {files[0].name}")
        yield replace(origin, file=relative(files[1], root)).refuse(key, alone)


def _round(row: Any, pools: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return a round with texts in the place of indices."""
    said = rest(row if need({"round": row}, "round", dict) else {}, "question", "answer")
    said["question"] = _pooled(row, "question", pools["questions"])
    if not hidden(row, "answer"):
        said["answer"] = _pooled(row, "answer", pools["answers"])
    if not hidden(row, "answer_options"):
        said["answer_options"] = [
            _pooled({"answer_options": option}, "answer_options", pools["answers"])
            for option in need(row, "answer_options", list)
        ]
    return said


def _pooled(row: Any, key: str, pool: Sequence[Any]) -> str:
    text: str = need({key: pool[chosen(row, key, pool)]}, key, str)
    return text


def _turns(opening: str, rounds: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    turns: list[Message] = []
    for number, said in enumerate(rounds):
        question = said["question"] if number else f"{opening}\n{said['question']}"
        turns.append(Message(role="user", content=question))
        if "answer" in said:
            turns.append(Message(role="assistant", content=said["answer"]))
        elif number + 1 < len(rounds):
            raise Bad("no_answer", f"round {number + 1} has no answer, and is not the last")
    return tuple(turns)


def _image(root: Path, subtype: Any, image_id: int) -> str:
    """Return a picture's path: the sets of 2018 have pictures of their own, all others COCO's."""
    if isinstance(subtype, str) and subtype.endswith("2018"):
        return f"VisualDialog_{subtype}/VisualDialog_{subtype}_{image_id:012}.jpg"
    return picture(root, image_id, ("train2014", "val2014"))


VISDIAL = Source(
    name="visdial",
    title="Visual Dialog",
    family="vqa",
    files=(
        "visdial_1.0_{train,val,test}.json",
        "visdial_1.0_val_dense_annotations.json",
        "{train2014,val2014,VisualDialog_val2018,VisualDialog_test2018}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://visualdialog.org",
    official={"train": 123_287, "val": 2_064, "test": 8_000},
)
