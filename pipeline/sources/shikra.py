"""Shikra's JSON Lines: expressions, region and grounded captions, dialogues with boxes -> Record.

Format: https://github.com/shikras/shikra/blob/main/docs/data.md. A row's fields tell its kind; the
VCR rows of Shikra are VCR's own and are read from VCR's release. Phrases stand between `<ph_st>`
and `<ph_ed>`, the n-th with the n-th entry of the `*_boxes_seq` beside it. Which field of the
GPT-4 dialogues goes with `answer_boxes_seq` is not verified: the first that has so many phrases.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, need, refusal, relative, rest, safe
from pipeline.sources.each import split_a_file
from pipeline.sources.files import json_lines
from pipeline.sources.regions import flags, numbers, xyxy
from pipeline.sources.spans import GROUND

LICENSE = "as the data sets it is made from"
FOLDERS = {"COCO_train2014": "train2014", "COCO_val2014": "val2014"}
CAPTION = "Describe what is in {mark}."
_PHRASE = re.compile(r"<ph_st>(.*?)<ph_ed>", re.DOTALL)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a line, in file order."""
    for file in files:
        place = relative(file, root)
        for position, row in enumerate(json_lines(file)):
            key: object = f"#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                yield _record(root, split, place, f"#{position}", row)
            except Bad as bad:
                yield refusal("shikra", split, place, key, bad)


def _record(root: Path, split: str, file: str, key: str, row: Any) -> Record:
    picture = _picture(row)
    taken: tuple[str, ...] = ()
    if "expression" in row and "bbox" in row:
        task, messages, regions, answers = _expression(split, row)
        taken = ("expression", "bbox")
    elif "sentence" in row and "boxes_seq" in row:
        task, messages, regions, answers = _sentence(row)
        taken = ("sentence",)
    elif "question" in row and "question_boxes_seq" in row:
        task, messages, regions, answers = _dialogue(row)
    else:
        raise Bad("unknown_kind", f"fields {', '.join(map(str, row))} fit no kind of Shikra's rows")
    return Record(
        source="shikra",
        split=split,
        native_id=key,
        task=task,
        images=(ImageRef(path=_place(root, picture)),),
        messages=tuple(messages),
        answers=answers,
        regions=tuple(regions),
        license=LICENSE,
        extra=rest(row, *taken),
        file=file,
    )


def _picture(row: Any) -> str:
    key = "img_path" if isinstance(row, dict) and "img_path" in row else "image_id"
    name = need(row, key, (str, int))
    return safe(name if isinstance(name, str) and "." in name else f"{name}.jpg")


def _place(root: Path, picture: str) -> str:
    """Return where a picture lies: as named, or in COCO's or Flickr30K's folder."""
    folder = FOLDERS.get(picture.rpartition("_")[0], "flickr30k-images")
    places = (picture, f"{folder}/{picture}", f"images/{picture}")
    return next((place for place in places if (root / place).is_file()), picture)


Said = tuple[Any, list[Message], list[Region], tuple[str, ...] | None]


def _region(row: dict[str, Any], label: str, value: Any, span: tuple[int, int] | None) -> Region:
    values = numbers(value, "boxes")
    if len(values) not in (4, 5):
        raise Bad("wrong_type", f"a box is {value!r:.60}, expected x0, y0, x1, y1")
    box = xyxy(list(values[:4]))
    size = [row.get(side) for side in ("width", "height")]
    known = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    return Region(
        label=label,
        box=box,
        span=span,
        extra=flags(box, *(size if known else (None, None)))
        | ({"score": values[4]} if len(values) == 5 else {}),
    )


def _expression(split: str, row: dict[str, Any]) -> Said:
    text = need(row, "expression", str)
    if not text.strip():
        raise Bad("empty_sentence", "the expression is blank")
    region = _region(row, text, need(row, "bbox", list), None)
    if split.startswith("GC"):
        asked = f"{IMAGE}\n{CAPTION.format(mark=region_mark(0))}"
        messages = [Message(role="user", content=asked), Message(role="assistant", content=text)]
        return "caption", messages, [region], (text,)
    return "grounding", [Message(role="user", content=f"{IMAGE}\n{text}")], [region], (text,)


def _sentence(row: dict[str, Any]) -> Said:
    regions: list[Region] = []
    text = _marked(row, need(row, "sentence", str), need(row, "boxes_seq", list), regions)
    plain = _PHRASE.sub(r"\1", row["sentence"])
    messages = [
        Message(role="user", content=f"{IMAGE}\n{GROUND}"),
        Message(role="assistant", content=text),
    ]
    return "caption", messages, regions, (plain,)


def _dialogue(row: dict[str, Any]) -> Said:
    regions: list[Region] = []
    asked = f"{IMAGE}\n{need(row, 'question', str)}"
    question = _marked(row, asked, need(row, "question_boxes_seq", list), regions)
    boxes = need(row, "answer_boxes_seq", list)
    fields = [key for key in ("cot_with_ans", "answer") if isinstance(row.get(key), str)]
    said = next((key for key in fields if len(_PHRASE.findall(row[key])) == len(boxes)), None)
    if said is None:
        raise Bad("count_mismatch", f"{len(boxes)} entries of boxes fit no answer of {fields}")
    answer = _marked(row, row[said], boxes, regions)
    messages = [
        Message(role="user", content=question),
        Message(role="assistant", content=answer),
    ]
    return "conversation", messages, regions, None


def _marked(row: dict[str, Any], text: str, sequence: Sequence[Any], regions: list[Region]) -> str:
    """Return a text with its phrases' marks; adds a region for every box of every phrase."""
    boxes = need(row, "boxes", list)
    named = list(_PHRASE.finditer(text))
    if len(named) != len(sequence):
        raise Bad("count_mismatch", f"{len(named)} phrases, {len(sequence)} entries of boxes")
    marked, done = "", 0
    for match, chosen in zip(named, sequence, strict=True):
        marked += text[done : match.start()]
        span = len(marked), len(marked) + len(match[1])
        places = []
        for at in need({"boxes_seq": chosen}, "boxes_seq", list):
            if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < len(boxes):
                raise Bad("bad_index", f"box {at!r:.40} of {len(boxes)}")
            places.append(len(regions))
            regions.append(_region(row, match[1], boxes[at], span))
        marked += match[1] + (f" {region_mark(*places)}" if places else "")
        done = match.end()
    return marked + text[done:]


SHIKRA = Source(
    name="shikra",
    title="Shikra region data",
    family="region",
    files=("{REC,GC,CWB,GPT4GEN}_*.jsonl", "pictures as they name, or in train2014/"),
    splits=split_a_file("*.jsonl", keys=("expression", "boxes_seq", "question_boxes_seq")),
    reader=read,
    license=LICENSE,
    homepage="https://github.com/shikras/shikra",
    note="its VCR rows are read from VCR's own release",
)
