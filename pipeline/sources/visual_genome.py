"""Visual Genome's regions, objects with attributes, and relationships -> Record.

Format: https://homes.cs.washington.edu/~ranjay/visualgenome/api.html. A record is a region, or all
objects or relationships of a picture. The large lists are read in place. Where a picture lies
stands only in the url of image_data.json; without that file both folders are tried. Boxes may
leave the picture or be empty [unverified]: they are kept and flagged.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, need, refusal, relative, rest, safe
from pipeline.sources.files import read_list
from pipeline.sources.inplace import WHOLE, Lists
from pipeline.sources.regions import by_name, drawable, flags, listing, xywh

LICENSE = "CC BY 4.0"
REGION = "Describe what is in {mark} in a short phrase."
OBJECTS = "Name objects in the picture, with their boxes."
ATTRIBUTES = "Name objects in the picture with what they are like, and their boxes."
RELATIONS = "List how objects in the picture relate: subject, predicate, object."

Said = tuple[str, str]
"""What is asked, and the answer."""
Entries = Callable[[dict[str, Any], dict[str, Any]], tuple[list[Region], Said, dict[str, Any]]]
"""(row of a picture, its image entry) -> regions, what is said, and what else the row holds."""


def splits(names: dict[str, str], root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (file,) or (file, image_data.json)."""
    images = root / "image_data.json"
    beside = (images,) if images.is_file() else ()
    found = {split: root / name for split, name in names.items()}
    return {split: (file, *beside) for split, file in found.items() if file.is_file()}


def _pictures(files: tuple[Path, ...]) -> dict[Any, Any] | None:
    """Return image id -> entry of image_data.json, None without the file."""
    if len(files) < 2:
        return None
    rows = [row for row in read_list(files[1]) if isinstance(row, dict)]
    keys = [row.get("image_id", row.get("id")) for row in rows]
    return {key: row for key, row in zip(keys, rows, strict=True) if isinstance(key, int | str)}


def _image(images: dict[Any, Any] | None, key: object) -> dict[str, Any]:
    if images is None:
        return {}
    entry = images.get(key) if isinstance(key, int | str) else None
    if not isinstance(entry, dict):
        raise Bad("no_image_entry", f"no picture {key!r} in image_data.json")
    return entry


def _path(root: Path, key: object, image: dict[str, Any]) -> str:
    url = image.get("url")
    if isinstance(url, str) and url.count("/") >= 1:
        return safe("/".join(url.split("/")[-2:]))
    places = [f"{folder}/{key}.jpg" for folder in ("VG_100K", "VG_100K_2")]
    return next((place for place in places if (root / place).is_file()), places[0])


def _box(entry: Any, image: dict[str, Any], sides: str) -> tuple[Any, dict[str, bool]]:
    """Return an entry's box and its flags; `sides` are the fields of its width and height."""
    width, height = sides.split()
    values = [need(entry, side, (int, float)) for side in ("x", "y", width, height)]
    box = xywh(values, "x, y, " + sides)
    whole = (image.get("width"), image.get("height"))
    known = all(isinstance(side, int) and not isinstance(side, bool) for side in whole)
    return box, flags(box, *(whole if known else (None, None)))


def _rows(
    content: Lists, images: dict[Any, Any] | None
) -> Iterator[tuple[object, Any, dict[str, Any]]]:
    """Yield (picture, row, image entry) of each row; a row without them is a `Bad` in its place."""
    for position, row in content.each(WHOLE):
        key: object = f"#{position}"
        try:
            outer = "image_id" if isinstance(row, dict) and "image_id" in row else "id"
            key = need(row, outer, (int, str))
            yield key, row, _image(images, key)
        except Bad as bad:
            yield key, bad, {}


def read_regions(name: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a region, picture by picture, in file order."""
    place, images = relative(files[0], root), _pictures(files)
    for picture, row, image in _rows(Lists(files[0], (WHOLE,)), images):
        try:
            if isinstance(row, Bad):
                raise row
            regions, path = need(row, "regions", list), _path(root, picture, image)
        except Bad as bad:
            yield refusal(name, split, place, picture, bad)
            continue
        for position, region in enumerate(regions):
            key: object = f"{picture}#{position}"
            try:
                key = need(region, "region_id", (int, str))
                if region.get("image_id", picture) != picture:
                    raise Bad("image_mismatch", f"of picture {region['image_id']} under {picture}")
                phrase = need(region, "phrase", str)
                if not phrase.strip():
                    raise Bad("empty_phrase", "the phrase is blank")
                box, odd = _box(region, image, "width height")
            except Bad as bad:
                yield refusal(name, split, place, key, bad)
                continue
            asked = REGION.format(mark=region_mark(0))
            yield Record(
                source=name,
                split=split,
                native_id=str(key),
                task="caption",
                images=(ImageRef(path=path),),
                messages=(
                    Message(role="user", content=f"{IMAGE}\n{asked}"),
                    Message(role="assistant", content=phrase.strip()),
                ),
                answers=(phrase.strip(),),
                regions=(Region(label=phrase, box=box, extra=odd),),
                license=LICENSE,
                extra=rest(region, "phrase", "x", "y", "width", "height")
                | {"image_id": picture, "image": image},
                file=place,
            )


def read_pictures(
    name: str, entries: dict[str, Entries], root: Path, split: str, files: tuple[Path, ...]
) -> Iterator[Item]:
    """Yield one record a picture, in file order."""
    place, images = relative(files[0], root), _pictures(files)
    for picture, row, image in _rows(Lists(files[0], (WHOLE,)), images):
        try:
            if isinstance(row, Bad):
                raise row
            regions, (asked, answer), extra = entries[split](row, image)
            path = _path(root, picture, image)
        except Bad as bad:
            yield refusal(name, split, place, picture, bad)
            continue
        messages = [Message(role="user", content=f"{IMAGE}\n{asked}")]
        if answer:
            messages.append(Message(role="assistant", content=answer))
        yield Record(
            source=name,
            split=split,
            native_id=str(picture),
            task="caption",
            images=(ImageRef(path=path),),
            messages=tuple(messages),
            regions=tuple(regions),
            license=LICENSE,
            extra=extra | {"image": image},
            file=place,
        )


def _name(entry: dict[str, Any]) -> str:
    """Return an object's name, which stands as `names`, as `name`, or not at all."""
    names = entry.get("names", entry.get("name", ""))
    first = names[0] if isinstance(names, list) and names else names
    return first.strip() if isinstance(first, str) else ""


def _object(entry: Any, image: dict[str, Any]) -> Region:
    need(entry, "object_id", (int, str))
    box, odd = _box(entry, image, "w h")
    return Region(label=_name(entry), box=box, extra=rest(entry, "x", "y", "w", "h") | odd)


def _listed(named: Iterable[tuple[str, Region]]) -> str:
    """Return the answer that lists regions under these names; nameless ones are not said."""
    pairs = [(name, place) for place, (name, region) in enumerate(named) if drawable(region)]
    return listing(by_name((name, place) for name, place in pairs if name))


def _objects(row: dict[str, Any], image: dict[str, Any]) -> tuple[Any, Said, dict[str, Any]]:
    regions = [_object(entry, image) for entry in need(row, "objects", list)]
    answer = _listed((region.label, region) for region in regions)
    return regions, (OBJECTS, answer), rest(row, "objects")


def _attributes(row: dict[str, Any], image: dict[str, Any]) -> tuple[Any, Said, dict[str, Any]]:
    regions = [_object(entry, image) for entry in need(row, "attributes", list)]
    answer = _listed((_described(region), region) for region in regions)
    return regions, (ATTRIBUTES, answer), rest(row, "attributes")


def _described(region: Region) -> str:
    """Return an object's attributes before its name, as `green, tall clock`."""
    given = region.extra.get("attributes")
    words = (
        [word.strip() for word in given if isinstance(word, str)] if isinstance(given, list) else []
    )
    return f"{', '.join(words)} {region.label}".strip() if region.label else ""


def _relations(row: dict[str, Any], image: dict[str, Any]) -> tuple[Any, Said, dict[str, Any]]:
    """Return the objects that relate, each once, and the relations between their places."""
    regions: list[Region] = []
    lines: list[str] = []
    kept = []
    for relation in need(row, "relationships", list):
        need(relation, "relationship_id", (int, str))
        predicate = " ".join(need(relation, "predicate", str).lower().split())
        places = []
        for role in ("subject", "object"):
            region = _object(need(relation, role, dict), image)
            if region not in regions:
                regions.append(region)
            places.append(regions.index(region))
        kept.append({**relation, "subject": places[0], "object": places[1]})
        subject, target = (regions[place] for place in places)
        if all(drawable(each) and each.label for each in (subject, target)) and predicate:
            head, tail = (f"{regions[p].label} {region_mark(p)}" for p in places)
            lines.append(f"{head} {predicate} {tail}")
    said = "\n".join(dict.fromkeys(lines))
    return regions, (RELATIONS, said), rest(row, "relationships") | {"relationships": kept}


def _source(name: str, title: str, names: dict[str, str], **spec: Any) -> Source:
    return Source(
        name=name,
        title=title,
        family="region",
        files=(*names.values(), "image_data.json", "{VG_100K,VG_100K_2}/*.jpg"),
        splits=partial(splits, names),
        license=LICENSE,
        homepage="https://homes.cs.washington.edu/~ranjay/visualgenome",
        **spec,
    )


VG_REGIONS = _source(
    "vg_regions",
    "Visual Genome regions",
    {"all": "region_descriptions.json"},
    reader=partial(read_regions, "vg_regions"),
    official={"all": 5_406_592},
)
VG_OBJECTS = _source(
    "vg_objects",
    "Visual Genome objects and attributes",
    {"objects": "objects.json", "attributes": "attributes.json"},
    reader=partial(read_pictures, "vg_objects", {"objects": _objects, "attributes": _attributes}),
    official={"objects": 108_077},
)
VG_RELATIONSHIPS = _source(
    "vg_relationships",
    "Visual Genome relationships",
    {"all": "relationships.json"},
    reader=partial(read_pictures, "vg_relationships", {"all": _relations}),
    official={"all": 108_077},
)
