"""MDETR's annotations: an image entry a caption, boxes tied to characters of it -> Record.

Format: https://github.com/ashkamath/mdetr/tree/main/scripts. Files of referring expressions are
read as such, all others as captions whose phrases have boxes. COCO's own id is `original_id`.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import Bad, Item, Source, need, refusal, relative, rest, safe
from pipeline.sources.inplace import Lists, keyed
from pipeline.sources.regions import flags, xywh
from pipeline.sources.spans import GROUND, Span, marked, outermost

LICENSE = "as the data sets it is made from"
FOLDERS = ("train2014", "flickr30k-images", "images", "VG_100K", "VG_100K_2")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (file,): the file's name without what all have."""
    files = [*sorted(root.glob("finetune_ref*.json")), *sorted(root.glob("final_*.json"))]
    return {file.stem.removeprefix("finetune_").removeprefix("final_"): (file,) for file in files}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an image entry, in file order; annotations of none are refused first."""
    place = relative(files[0], root)
    content = Lists(files[0], ("images", "annotations"))
    known = {key for _, key, _ in keyed(content.each("images"), "id") if not isinstance(key, Bad)}
    of_image: defaultdict[int | str, list[int]] = defaultdict(list)
    for number, key, _ in keyed(content.each("annotations"), "image_id"):
        if isinstance(key, Bad):
            yield refusal("mdetr", split, place, f"annotation #{number}", key)
        elif key in known:
            of_image[key].append(number)
        else:
            bad = Bad("no_image_entry", f"no picture {key!r} in 'images'")
            yield refusal("mdetr", split, place, f"annotation #{number}", bad)
    for position, key, image in keyed(content.each("images"), "id"):
        try:
            if isinstance(key, Bad):
                raise key
            rows = [content.load("annotations", number) for number in of_image[key]]
            yield _record(root, split, place, str(key), image, rows)
        except Bad as bad:
            yield refusal("mdetr", split, place, f"#{position}" if key is bad else key, bad)


def _record(
    root: Path, split: str, file: str, key: str, image: dict[str, Any], rows: list[Any]
) -> Record:
    caption = need(image, "caption", str)
    if not caption.strip():
        raise Bad("empty_caption", "the caption is blank")
    spans = [_spans(row, caption) for row in rows]
    regions = [_region(row, image, caption, own) for row, own in zip(rows, spans, strict=True)]
    if str(image.get("dataset_name", split)).startswith("refc"):
        if not regions:
            raise Bad("no_annotation", "the expression has no box")
        task: Any = "grounding"
        messages = [Message(role="user", content=f"{IMAGE}\n{caption}")]
        prefix = len(f"{IMAGE}\n")
        moved = [(own[0][0] + prefix, own[0][1] + prefix) if own else None for own in spans]
    else:
        task = "caption"
        groups: dict[Span, list[int]] = {}
        for at, own in enumerate(spans):
            for span in own:
                groups.setdefault(span, []).append(at)
        text = marked([(*span, groups[span]) for span in outermost(groups)], caption)
        moved = [text.moved(own[0]) if own else None for own in spans]
        messages = [
            Message(role="user", content=f"{IMAGE}\n{GROUND}"),
            Message(role="assistant", content=text.text),
        ]
    return Record(
        source="mdetr",
        split=split,
        native_id=key,
        task=task,
        images=(ImageRef(path=_path(root, image)),),
        messages=tuple(messages),
        answers=(caption,),
        regions=tuple(
            Region(label=region.label, box=region.box, span=span, extra=region.extra)
            for region, span in zip(regions, moved, strict=True)
        ),
        license=LICENSE,
        extra=rest(image, "caption"),
        file=file,
    )


def _path(root: Path, image: dict[str, Any]) -> str:
    name = safe(need(image, "file_name", str))
    places = (name, *(f"{folder}/{name}" for folder in FOLDERS))
    found = next((place for place in places if (root / place).is_file()), None)
    return found or (f"train2014/{name}" if name.startswith("COCO_train2014") else name)


def _spans(row: Any, caption: str) -> list[Span]:
    spans = []
    for pair in need(row, "tokens_positive", list):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(at) is int for at in pair)):
            raise Bad("bad_span", f"'tokens_positive' holds {pair!r:.60}, expected [start, end]")
        if not 0 <= pair[0] < pair[1] <= len(caption):
            raise Bad("bad_span", f"{pair} in a caption of {len(caption)} characters")
        spans.append((pair[0], pair[1]))
    return spans


def _region(row: dict[str, Any], image: dict[str, Any], caption: str, spans: list[Span]) -> Region:
    box = xywh(need(row, "bbox", list))
    width, height = image.get("width"), image.get("height")
    known = type(width) is int and type(height) is int
    return Region(
        label=" ".join(caption[start:end] for start, end in spans),
        box=box,
        extra=rest(row, "bbox", "image_id")
        | flags(box, width if known else None, height if known else None),
    )


MDETR = Source(
    name="mdetr",
    title="MDETR annotations",
    family="region",
    files=(
        "finetune_refcoco{,+,g}_{train,val,testA,testB,test}.json",
        "final_flickr_{separateGT,mergedGT}_{train,val,test}.json",
        "{train2014,flickr30k-images}/*.jpg",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/ashkamath/mdetr",
)
