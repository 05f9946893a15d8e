"""GranD-f: captions whose phrases have masks (grounded conversation generation) -> Record.

Format: https://github.com/mbzuai-oryx/groundingLMM. Rows are {file_name, caption, groundings:
{phrase: {token_positives, rle_masks}}}. A region's box is the box around its mask, which the
release does not give. The parts made from PSG are taken to have the same form [unverified].
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.masks import bounds
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    need,
    read_rows,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.each import split_a_file
from pipeline.sources.regions import numbers, segmentation
from pipeline.sources.spans import GROUND, Span, marked, outermost

LICENSE = "annotations Apache-2.0 [unverified], pictures under their own"


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, in file order; a picture's second caption has its place in its id."""
    seen: set[str] = set()
    for file in files:
        place = relative(file, root)
        for position, row in enumerate(read_rows(file)):
            key = f"#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                name = safe(need(row, "file_name", str))
                key = name if name not in seen else f"{name}#{position}"
                seen.add(name)
                yield _record(root, split, place, key, row)
            except Bad as bad:
                yield refusal("grand_f", split, place, key, bad)


def _record(root: Path, split: str, file: str, key: str, row: dict[str, Any]) -> Record:
    caption = need(row, "caption", str)
    if not caption.strip():
        raise Bad("empty_caption", "the caption is blank")
    regions: list[tuple[Region, Span]] = []
    groups: dict[Span, list[int]] = {}
    for phrase, grounding in need(row, "groundings", dict).items():
        span = _span(grounding, caption)
        for rle in need(grounding, "rle_masks", list):
            groups.setdefault(span, []).append(len(regions))
            region = Region(label=phrase, box=_box(rle), **segmentation(rle))
            regions.append((region, span))
    drawn = [span for span in outermost(groups) if groups[span]]
    text = marked([(*span, groups[span]) for span in drawn], caption)
    return Record(
        source="grand_f",
        split=split,
        native_id=key,
        task="caption",
        images=(ImageRef(path=_picture(root, row["file_name"])),),
        messages=(
            Message(role="user", content=f"{IMAGE}\n{GROUND}"),
            Message(role="assistant", content=text.text),
        ),
        answers=(caption,),
        regions=tuple(
            Region(label=r.label, box=r.box, rle=r.rle, span=text.moved(span), extra=r.extra)
            for r, span in regions
        ),
        license=LICENSE,
        extra=rest(row, "caption", "groundings") | {"groundings": _spoken(row)},
        file=file,
    )


def _spoken(row: dict[str, Any]) -> dict[str, Any]:
    """Return the groundings without their masks, which the regions hold in the same order."""
    return {phrase: rest(entry, "rle_masks") for phrase, entry in row["groundings"].items()}


def _span(grounding: Any, caption: str) -> Span:
    start, end = numbers(need(grounding, "token_positives", list), "token_positives", 2)
    if not 0 <= start < end <= len(caption):
        raise Bad("bad_span", f"{start, end} in a caption of {len(caption)} characters")
    return int(start), int(end)


def _box(rle: Any) -> tuple[float, float, float, float] | None:
    need(rle, "size", list)
    need(rle, "counts", (str, list))
    try:
        return bounds(rle)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise Bad("bad_mask", f"run lengths cannot be read: {error}") from error


def _picture(root: Path, name: str) -> str:
    places = (name, f"images/{name}", f"GranDf_HA_images/train/{name}", f"train2017/{name}")
    return next((place for place in places if (root / place).is_file()), places[1])


GRAND_F = Source(
    name="grand_f",
    title="GranD-f (GCG)",
    family="region",
    files=("GranDf_HA_GCG_{train,val}.json", "OpenPsgGCG_{train,val}.json", "images/*.jpg"),
    splits=split_a_file("*GCG*.json", keys=("groundings",)),
    reader=read,
    license=LICENSE,
    homepage="https://github.com/mbzuai-oryx/groundingLMM",
    note=(
        "boxes are those around the masks; the parts made from PSG are taken to have the "
        "same form, those from RefCOCOg and Flickr30K are read from their own releases"
    ),
)
