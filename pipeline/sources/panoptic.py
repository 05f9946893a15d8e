"""COCO panoptic segments -> one Record a picture, each segment with its exact mask.

Format: https://cocodataset.org/#format-data. The PNG's masks are kept as run lengths, see
`pipeline.sources.segments`; without the folder of PNGs only boxes and ids can be kept.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    first_folder,
    need,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.inplace import Lists, keyed, table
from pipeline.sources.regions import flags, listed, listing, xywh
from pipeline.sources.segments import masked, masks_of, panoptic_ids

SHARE = (
    "Divide the picture into things and stuff, leaving out crowds. "
    "Name each category once, with the boxes of all its segments."
)
NAME = "coco_panoptic"
LICENSE = "COCO terms of use: annotations CC BY 4.0, pictures under their own"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (annotation file,) or (annotation file, folder of masks)."""
    files = sorted(root.glob("panoptic_*.json")) + sorted(root.glob("annotations/panoptic_*.json"))
    found: dict[str, tuple[Path, ...]] = {}
    for file in files:
        split = file.stem.removeprefix("panoptic_")
        masks = mask_folder(root, split)
        found[split] = (file,) if masks is None else (file, masks)
    return found


def mask_folder(root: Path, split: str) -> Path | None:
    """Return the folder of a split's PNGs, if it is unpacked."""
    name = f"panoptic_{split}"
    places = (f"annotations/{name}", name, f"annotations/{name}/{name}")
    return next((root / place for place in places if (root / place).is_dir()), None)


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an annotation, in file order; a picture without one is refused at the end."""
    place = relative(files[0], root)
    content = Lists(files[0], ("images", "annotations", "categories", "licenses"))
    refuse = partial(refusal, NAME, split, place)
    images: dict[Any, dict[str, Any]] = {}
    for number, key, image in keyed(content.each("images"), "id"):
        if isinstance(key, Bad) or key in images:
            twice = Bad("duplicate_id", "this picture's id came before in 'images'")
            yield refuse(f"image #{number}", key if isinstance(key, Bad) else twice)
        else:
            images[key] = image
    categories, licenses = table(content, "categories"), table(content, "licenses")
    masks = files[1] if len(files) > 1 else None
    folder = first_folder(root, (split, f"images/{split}"), split)
    seen: set[int | str] = set()
    for number, key, annotation in keyed(content.each("annotations"), "image_id"):
        try:
            if isinstance(key, Bad):
                raise key
            if key not in images:
                raise Bad("no_image_entry", f"no picture {key!r} in 'images'")
            if key in seen:
                raise Bad("duplicate_id", "this picture was annotated before in the file")
            seen.add(key)
            image = images[key]
            regions = _regions(annotation, image, categories, masks)
        except Bad as bad:
            yield refuse(f"#{number}" if isinstance(key, Bad) else key, bad)
            continue
        spoken = {region.extra["category_id"] for region in regions}
        yield Record(
            source=NAME,
            split=split,
            native_id=str(key),
            task="grounding",
            images=(ImageRef(path=safe(f"{folder}/{image['file_name']}")),),
            messages=(
                Message(role="user", content=f"{IMAGE}\n{SHARE}"),
                Message(role="assistant", content=listing(listed(regions)) or "There is none."),
            ),
            regions=tuple(regions),
            license=_license(image, licenses),
            extra={
                "image": image,
                "annotation": rest(annotation, "segments_info"),
                "categories": [row for at, row in categories.items() if at in spoken],
            },
            file=place,
        )
    for key in images:
        if key not in seen:
            yield refuse(key, Bad("no_annotation", "no annotation of this picture"))


def _regions(
    annotation: dict[str, Any],
    image: dict[str, Any],
    categories: dict[Any, dict[str, Any]],
    folder: Path | None,
) -> list[Region]:
    safe(need(image, "file_name", str))
    size = need(image, "width", (int, float)), need(image, "height", (int, float))
    file = safe(need(annotation, "file_name", str))
    masks = None if folder is None else masks_of(folder / file, panoptic_ids)
    regions = []
    for segment in need(annotation, "segments_info", list):
        number = need(segment, "id", int)
        category = categories.get(need(segment, "category_id", (int, str)))
        if category is None:
            raise Bad("no_category", f"no category {segment['category_id']!r} in 'categories'")
        box = xywh(need(segment, "bbox", list))
        mask = masked(masks, number, segment.get("area"))
        regions.append(
            Region(
                label=need(category, "name", str),
                box=box,
                rle=mask.get("rle"),
                extra=rest(segment, "bbox") | flags(box, *size) | mask.get("pixels", {}),
            )
        )
    listed = {region.extra["id"] for region in regions}
    if unlisted := sorted(set(masks or ()) - listed):
        raise Bad("no_segment", f"the mask has segments that are not listed: {unlisted[:5]}")
    return regions


def _license(image: dict[str, Any], licenses: dict[Any, dict[str, Any]]) -> str:
    number = image.get("license")
    name = licenses.get(number, {}).get("name") if isinstance(number, int | str) else None
    return name if isinstance(name, str) else LICENSE


COCO_PANOPTIC = Source(
    name=NAME,
    title="COCO panoptic",
    family="region",
    files=(
        "annotations/panoptic_{train,val}2017.json",
        "annotations/panoptic_{train,val}2017/*.png",
        "{train,val}2017/*.jpg",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://cocodataset.org",
    official={"train2017": 118_287, "val2017": 5_000},
    note="masks are kept as exact run lengths where the PNG folder is unpacked, else boxes and ids alone",
)
