"""COCO instances, LVIS and Objects365 -> one Record a picture: detect and list.

Formats: https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset and
https://www.objects365.org. The files are read in place, so that memory does not grow with them
beyond some bytes an annotation. An annotation that cannot be read is refused by itself; its
picture keeps the others, and the raw annotation in `extra`.

Not verified against the releases: Objects365's flags `isfake` and `isreflected` (kept whatever
they are) and its folder layout (pictures are looked up by their last two parts, then by name).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import Bad, Item, Source, need, refusal, relative, rest, safe
from pipeline.sources.inplace import Lists, keyed, table
from pipeline.sources.regions import flags, listed, listing, readable, segmentation, xywh

HEADS = ("instances_", "image_info_", "lvis_v1_", "zhiyuan_objv2_")
"""What stands before the split in a file's name."""
DETECT = (
    "Detect every single object in the picture, leaving out crowds. "
    "Name each category once, with the boxes of all that belong to it."
)
DETECT_THESE = "Detect these categories in the picture, and say which are absent: {names}."
DETECT_SOME = "Point out some of these in the picture: {names}."
"""Asked of categories that are there, but not all of them boxed."""
NONE = "There is none."


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """What tells one release in this format from another."""

    name: str
    patterns: tuple[str, ...]
    """Annotation files, in the root or its folder `annotations`."""
    federated: bool = False
    """Only the categories a picture lists were looked for in it."""
    license: str


def splits(flavour: Flavour, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (annotation file,)."""
    found: dict[str, tuple[Path, ...]] = {}
    for folder in ("annotations", ""):
        for pattern in flavour.patterns:
            for file in sorted((root / folder).glob(pattern)):
                head = next((h for h in HEADS if file.stem.startswith(h)), "")
                found.setdefault(file.stem.removeprefix(head), (file,))
    return found


def read(flavour: Flavour, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in file order, and a refusal for each annotation not taken."""
    place = relative(files[0], root)
    content = Lists(files[0], ("images", "annotations", "categories", "licenses"))
    refuse = partial(refusal, flavour.name, split, place)
    categories, licenses = table(content, "categories"), table(content, "licenses")
    positions: dict[int | str, int] = {}
    repeated: set[int] = set()
    for position, key, _ in keyed(content.each("images"), "id"):
        if not isinstance(key, Bad) and positions.setdefault(key, position) != position:
            repeated.add(position)
    owners = np.full(content.count("annotations") if "annotations" in content else 0, -1)
    if "annotations" in content:
        for number, key, annotation in keyed(content.each("annotations"), "image_id"):
            if isinstance(key, Bad):
                yield refuse(f"annotation #{number}", key)
            elif key not in positions:
                bad = Bad("no_image_entry", f"no picture {key!r} in 'images'")
                yield refuse(f"annotation {annotation.get('id', f'#{number}')}", bad)
            else:
                owners[number] = positions[key]
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(content.count("images") + 1))
    locate = _locator(flavour, root, split)
    for position, key, image in keyed(content.each("images"), "id"):
        try:
            if isinstance(key, Bad):
                raise key
            if position in repeated:
                raise Bad("duplicate_id", "this picture's id came before in 'images'")
            path = locate(image)
        except Bad as bad:
            yield refuse(f"#{position}" if isinstance(key, Bad) else key, bad)
            continue
        regions, left = [], []
        for number in order[bounds[position] : bounds[position + 1]]:
            annotation = content.load("annotations", int(number))
            try:
                regions.append(_region(annotation, image, categories))
            except Bad as bad:
                left.append(annotation)
                yield refuse(f"{key}/annotation {annotation.get('id', f'#{number}')}", bad)
        messages = _messages(flavour, regions, image, categories, "annotations" in content)
        yield Record(
            source=flavour.name,
            split=split,
            native_id=str(key),
            task="grounding",
            images=(ImageRef(path=path),),
            messages=messages,
            regions=tuple(regions),
            license=_license(image, licenses, flavour),
            extra={"image": image, "categories": _named(regions, image, categories)}
            | ({"refused_annotations": left} if left else {}),
            file=place,
        )


def _region(
    annotation: dict[str, Any], image: dict[str, Any], categories: Mapping[Any, dict[str, Any]]
) -> Region:
    category = categories.get(need(annotation, "category_id", (int, str)))
    if category is None:
        raise Bad("no_category", f"no category {annotation['category_id']!r} in 'categories'")
    box = xywh(need(annotation, "bbox", list))
    return Region(
        label=need(category, "name", str),
        box=box,
        **segmentation(annotation.get("segmentation")),
        extra=rest(annotation, "bbox", "segmentation", "image_id")
        | flags(box, _side(image, "width"), _side(image, "height")),
    )


def _side(image: dict[str, Any], key: str) -> float | None:
    value = image.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _messages(
    flavour: Flavour,
    regions: list[Region],
    image: dict[str, Any],
    categories: Mapping[Any, dict[str, Any]],
    annotated: bool,
) -> tuple[Message, ...]:
    """Return the request and the list."""
    groups = listed(regions)
    asked = DETECT
    if flavour.federated:
        asked, groups = _federated(groups, image, categories)
    user = Message(role="user", content=f"{IMAGE}\n{asked}")
    if not annotated or (flavour.federated and not groups):
        return (user,)
    return (user, Message(role="assistant", content=listing(groups) or NONE))


def _federated(
    groups: dict[str, list[int]], image: dict[str, Any], categories: Mapping[Any, dict[str, Any]]
) -> tuple[str, dict[str, list[int]]]:
    """Ask only for what was looked for: of all other categories nothing is known."""
    absent, partly = (
        {readable(str(categories[i].get("name"))) for i in _ids(image, key) if i in categories}
        for key in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    known = sorted((absent | set(groups)) - partly)
    if known:
        asked, names = DETECT_THESE, known
    elif groups:
        asked, names = DETECT_SOME, sorted(groups)
    else:
        return DETECT, {}
    return asked.format(names=", ".join(names)), {name: groups.get(name, []) for name in names}


def _ids(image: dict[str, Any], key: str) -> list[int]:
    value = image.get(key, [])
    return [i for i in value if isinstance(i, int)] if isinstance(value, list) else []


def _named(
    regions: list[Region], image: dict[str, Any], categories: Mapping[Any, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the category entries that a picture's annotations and lists speak of."""
    spoken = {region.extra["category_id"] for region in regions}
    spoken |= {*_ids(image, "neg_category_ids"), *_ids(image, "not_exhaustive_category_ids")}
    return [category for key, category in categories.items() if key in spoken]


def _license(
    image: dict[str, Any], licenses: Mapping[Any, dict[str, Any]], flavour: Flavour
) -> str:
    number = image.get("license")
    entry = licenses.get(number) if isinstance(number, int | str) else None
    name = entry.get("name") if entry is not None else None
    return name if isinstance(name, str) and name.strip() else flavour.license


class _locator:
    """Finds a picture's path: folders differ between what the file says and what is unpacked."""

    def __init__(self, flavour: Flavour, root: Path, split: str) -> None:
        self.root, self.split = root, split
        self.lvis = flavour.federated
        self.index: dict[str, str] | None = None

    def __call__(self, image: dict[str, Any]) -> str:
        given = image.get("file_name")
        if given is None and self.lvis:
            parts = PurePosixPath(need(image, "coco_url", str)).parts[-2:]
        else:
            parts = PurePosixPath(safe(need(image, "file_name", str))).parts[-2:]
        if not parts:
            raise Bad("unsafe_path", "the picture's path is empty")
        name, whole = parts[-1], safe("/".join(parts))
        if len(parts) == 2 and self.lvis:
            return self._first(whole, f"images/{whole}", f"coco/{whole}")
        folder = parts[0] if len(parts) == 2 else _year(name, self.split)
        places = [f"{self.split}/{whole}", whole, f"images/{self.split}/{whole}", f"images/{whole}"]
        if len(parts) == 1:
            places = [f"{folder}/{name}", f"images/{folder}/{name}", *places]
        found = next((place for place in places if (self.root / place).is_file()), None)
        return found or self._indexed(name) or places[0]

    def _first(self, *places: str) -> str:
        return next((place for place in places if (self.root / place).is_file()), places[0])

    def _indexed(self, name: str) -> str | None:
        if self.index is None:
            self.index = {}
            for file in self.root.rglob("*.[jJ][pP]*[gG]"):
                self.index.setdefault(file.name, relative(file, self.root))
        return self.index.get(name)


def _year(name: str, split: str) -> str:
    """
    >>> _year("COCO_val2014_000000000042.jpg", "minival"), _year("000000000042.jpg", "val2017")
    ('val2014', 'val2017')
    """
    parts = name.split("_")
    return parts[1] if parts[0] == "COCO" and len(parts) == 3 else split


def _source(flavour: Flavour, **spec: Any) -> Source:
    return Source(
        name=flavour.name,
        family="region",
        splits=partial(splits, flavour),
        reader=partial(read, flavour),
        license=flavour.license,
        **spec,
    )


COCO_INSTANCES = _source(
    Flavour(
        name="coco_instances",
        patterns=("instances_*.json", "image_info_test*.json"),
        license="COCO terms of use: annotations CC BY 4.0, pictures under their own",
    ),
    title="COCO instances",
    files=(
        "annotations/instances_{train,val}{2014,2017}.json",
        "{train,val}{2014,2017}/*.jpg",
    ),
    homepage="https://cocodataset.org",
    official={
        "train2017": 118_287,
        "val2017": 5_000,
        "train2014": 82_783,
        "val2014": 40_504,
    },
)
LVIS = _source(
    Flavour(
        name="lvis",
        patterns=("lvis_v*.json",),
        federated=True,
        license="CC BY 4.0",
    ),
    title="LVIS",
    files=("lvis_v1_{train,val}.json", "{train2017,val2017}/*.jpg"),
    homepage="https://www.lvisdataset.org",
    note="asks only for categories that were looked for: all others are unknown, not absent",
    official={"train": 100_170, "val": 19_809},
)
OBJECTS365 = _source(
    Flavour(
        name="objects365",
        patterns=("zhiyuan_objv2_*.json", "*obj365*.json"),
        license="annotations CC BY 4.0, pictures under their own",
    ),
    title="Objects365",
    files=("zhiyuan_objv2_{train,val}.json", "{train,val}/patch*/objects365_v{1,2}_*.jpg"),
    homepage="https://www.objects365.org",
    note="the flags and the folder layout are unverified; pictures are found by name",
)
