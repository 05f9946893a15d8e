"""Referring expressions in other forms than REFER's: google_refexp, and files of evaluations -> Record.

Formats: https://github.com/mjhucla/Google_Refexp_toolbox (objects keyed by ids as text), the
evaluation files of MiniGPT-v2 (a JSON list, boxes x y width height) and of Qwen-VL and InternVL
(JSON Lines, boxes as corners). Train and val of google_refexp share pictures; all are COCO's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    first_folder,
    need,
    read_rows,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.each import split_a_file
from pipeline.sources.files import read_object
from pipeline.sources.refer import PICTURES
from pipeline.sources.regions import flags, segmentation, xywh, xyxy

LICENSE = "COCO pictures, research use"


def google_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (file,)."""
    files = sorted(root.glob("google_refexp_*_coco_aligned*.json"))
    return {file.name.split("_")[2]: (file,) for file in files}


def read_google(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an expression, annotation by annotation; then refuse those left over."""
    place, content = relative(files[0], root), read_object(files[0])
    tables = {key: content.get(key) for key in ("images", "annotations", "refexps")}
    images, annotations, refexps = (
        table if isinstance(table, dict) else {} for table in tables.values()
    )
    listed = content.get("categories")
    categories = {
        row["id"]: row.get("name")
        for row in (listed if isinstance(listed, list) else [])
        if isinstance(row, dict) and isinstance(row.get("id"), int)
    }
    folder = first_folder(root, PICTURES, PICTURES[0])
    said: set[str] = set()
    for key, annotation in annotations.items():
        try:
            numbers = need(annotation, "refexp_ids", list)
            image = images.get(str(need(annotation, "image_id", (int, str))))
            if not isinstance(image, dict):
                raise Bad("no_image_entry", f"no picture {annotation['image_id']!r} in 'images'")
            region = _google_region(annotation, image, categories)
            path = safe(f"{folder}/{need(image, 'file_name', str)}")
        except Bad as bad:
            yield refusal("google_refexp", split, place, f"annotation {key}", bad)
            continue
        for number in map(str, numbers):
            said.add(number)
            try:
                refexp = need(refexps, number, dict)
                yield _asked(
                    source="google_refexp",
                    split=split,
                    native_id=number,
                    path=path,
                    text=need(refexp, "raw", str),
                    region=region,
                    extra={"refexp": refexp, "image": image},
                    file=place,
                )
            except Bad as bad:
                yield refusal("google_refexp", split, place, number, bad)
    for number in refexps:
        if number not in said:
            alone = Bad("no_annotation", "no annotation names this expression")
            yield refusal("google_refexp", split, place, number, alone)


def _google_region(
    annotation: dict[str, Any], image: dict[str, Any], categories: dict[int, Any]
) -> Region:
    box = xywh(need(annotation, "bbox", list))
    name = categories.get(need(annotation, "category_id", int))
    if not isinstance(name, str):
        raise Bad("no_category", f"no category {annotation['category_id']!r} in 'categories'")
    return Region(
        label=name,
        box=box,
        **segmentation(annotation.get("segmentation")),
        extra=rest(annotation, "bbox", "segmentation") | _flags(box, image),
    )


def _flags(box: tuple[float, float, float, float], row: dict[str, Any]) -> dict[str, bool]:
    width, height = row.get("width"), row.get("height")
    known = type(width) is int and type(height) is int
    return flags(box, width if known else None, height if known else None)


def _asked(*, text: str, region: Region, path: str, **record: Any) -> Record:
    if not text.strip():
        raise Bad("empty_sentence", "the expression is blank")
    return Record(
        task="grounding",
        images=(ImageRef(path=path),),
        messages=(Message(role="user", content=f"{IMAGE}\n{text}"),),
        answers=(text,),
        regions=(region,),
        license=LICENSE,
        **record,
    )


def read_evaluation(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, in file order."""
    for file in files:
        place = relative(file, root)
        for position, row in enumerate(read_rows(file)):
            try:
                if isinstance(row, Bad):
                    raise row
                yield _evaluated(root, split, place, f"#{position}", row)
            except Bad as bad:
                yield refusal("rec_eval", split, place, f"#{position}", bad)


def _evaluated(root: Path, split: str, file: str, key: str, row: Any) -> Record:
    given = need(row, "bbox", list)
    if "img_id" in row:
        # The id ends in the number of an object, and no picture is named so.
        name, said = need(row, "img_id", str).rpartition("_")[0] + ".jpg", "sents"
        box, folder = xywh(given), first_folder(root, PICTURES, "train2014")
        path = safe(f"{folder}/{name}")
    else:
        path, said, box = safe(need(row, "image", str)), "sent", xyxy(given)
    text = need(row, said, str)
    return _asked(
        source="rec_eval",
        split=split,
        native_id=key,
        path=path,
        text=text,
        region=Region(label=text, box=box, extra=_flags(box, row)),
        extra=rest(row, said, "bbox"),
        file=file,
    )


GOOGLE_REFEXP = Source(
    name="google_refexp",
    title="RefCOCOg, original release (Google Refexp)",
    family="region",
    files=(
        "google_refexp_{train,val}_201511_coco_aligned*.json",
        "images/mscoco/images/train2014/COCO_train2014_*.jpg",
    ),
    splits=google_splits,
    reader=read_google,
    license=LICENSE,
    homepage="https://github.com/mjhucla/Google_Refexp_toolbox",
)
REC_EVAL = Source(
    name="rec_eval",
    title="RefCOCO evaluation files of MiniGPT-v2, Qwen-VL, InternVL",
    family="region",
    files=("refcoco{,+,g}_{val,testA,testB,test}.{json,jsonl}", "pictures as they name"),
    splits=split_a_file("refcoco*.json", "refcoco*.jsonl", keys=("sents", "sent")),
    reader=read_evaluation,
    license=LICENSE,
    homepage="https://github.com/Vision-CAIR/MiniGPT-4",
)
