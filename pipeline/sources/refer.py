"""RefCOCO, RefCOCO+ and RefCOCOg expressions (the REFER release) -> Record.

Format: https://github.com/lichengunc/refer
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.pickles import load_pickle
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    first_folder,
    need,
    read_json,
    refusal,
    relative,
    rest,
)
from pipeline.sources.regions import flags, segmentation, xywh

PLAIN = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""The partition that papers report; the others' splits are named `<partition>_<split>`."""
PARTITIONS = ("unc", "umd", "google")
SPLITS = ("train", "val", "testA", "testB", "test")
PICTURES = ("images/mscoco/images/train2014", "train2014", "images/train2014")


def read_refs(file: Path) -> list[Any]:
    """Return the refs of a Python-2 pickle, without running anything it names.

    Raises:
        DataError: the pickle is broken, or asks for code.
    """
    refs = load_pickle(file, encodings=("ascii", "latin1"))
    if not isinstance(refs, list):
        raise DataError("the pickle holds no list", file=file, fix="take the official file")
    rows: list[Any] = _text(refs)
    return rows


def _text(value: Any) -> Any:
    """Read text that Python 2 stored as bytes: UTF-8 where it is, else Latin-1."""
    if isinstance(value, str) and not value.isascii():
        try:
            return value.encode("latin1").decode()
        except UnicodeError:
            return value
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, dict):
        return {_text(key): _text(item) for key, item in value.items()}
    return value


def splits(name: str, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (refs, instances); the root is the release's or the dataset's own folder."""
    folder = root / name if (root / name).is_dir() else root
    instances = folder / "instances.json"
    found: dict[str, tuple[Path, ...]] = {}
    if not instances.exists():
        return found
    for partition in PARTITIONS:
        file = folder / f"refs({partition}).p"
        if file.exists():
            for split in _present(read_refs(file)):
                plain = partition == PLAIN[name]
                found[split if plain else f"{partition}_{split}"] = (file, instances)
    return found


def _present(refs: list[Any]) -> list[str]:
    """Return the splits that refs are of, in the order papers list them."""
    own = [ref.get("split") for ref in refs if isinstance(ref, dict)]
    return [split for split in SPLITS if split in own]


def read(name: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a sentence, in file order."""
    place, wanted = relative(files[0], root), split.rpartition("_")[2]
    instances = read_json(files[1])
    try:
        annotations = {row["id"]: row for row in instances["annotations"]}
        pictures = {row["id"]: row for row in instances["images"]}
        categories = {row["id"]: row for row in instances["categories"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"no COCO file: {error!r}", file=files[1], fix="take the official instances.json"
        ) from error
    folder = first_folder(root, PICTURES, PICTURES[0])
    licenses = _licenses(instances)
    refs = read_refs(files[0])
    first = _present(refs)[0] == wanted
    for position, ref in enumerate(refs):
        own = ref.get("split") if isinstance(ref, dict) else None
        # A ref of no known split is refused once, in the file's first.
        if own != wanted and (own in SPLITS or not first):
            continue
        key: object = f"#{position}"
        try:
            key = need(ref, "ref_id", int)
            if own != wanted:
                raise Bad("unknown_split", f"split {own!r:.40}, expected {', '.join(SPLITS)}")
            annotation = annotations.get(need(ref, "ann_id", int))
            picture = pictures.get(need(ref, "image_id", int))
            if annotation is None:
                raise Bad("no_annotation", f"no annotation {ref['ann_id']} in {files[1].name}")
            if picture is None:
                raise Bad("no_image_entry", f"no picture {ref['image_id']} in {files[1].name}")
            category = categories.get(need(annotation, "category_id", (int, str)))
            if category is None:
                raise Bad("no_category", f"no category {annotation['category_id']!r}")
            sentences = need(ref, "sentences", list)
            if not sentences:
                raise Bad("no_sentence", "the ref has no sentence")
        except Bad as bad:
            yield refusal(name, split, place, key, bad)
            continue
        for sentence in sentences:
            try:
                yield _record(
                    name,
                    split,
                    place,
                    folder,
                    ref,
                    sentence,
                    annotation,
                    picture,
                    category,
                    licenses,
                )
            except Bad as bad:
                number = sentence.get("sent_id") if isinstance(sentence, dict) else "?"
                yield refusal(name, split, place, f"{key}/{number}", bad)


def _record(
    name: str,
    split: str,
    file: str,
    folder: str,
    ref: dict[str, Any],
    sentence: dict[str, Any],
    annotation: dict[str, Any],
    picture: dict[str, Any],
    category: dict[str, Any],
    licenses: dict[int, str],
) -> Record:
    text, number = need(sentence, "sent", str), need(sentence, "sent_id", int)
    if not text.strip():
        raise Bad("empty_sentence", "the sentence is blank")
    box = xywh(need(annotation, "bbox", list))
    size = [picture.get(side) for side in ("width", "height")]
    known = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    region = Region(
        label=need(category, "name", str),
        box=box,
        **segmentation(annotation.get("segmentation")),
        extra=rest(annotation, "bbox", "segmentation")
        | {"supercategory": category.get("supercategory")}
        | flags(box, *(size if known else (None, None))),
    )
    return Record(
        source=name,
        split=split,
        native_id=str(number),
        task="grounding",
        images=(ImageRef(path=f"{folder}/COCO_train2014_{ref['image_id']:012}.jpg"),),
        messages=(Message(role="user", content=f"{IMAGE}\n{text}"),),
        answers=(text,),
        regions=(region,),
        license=_license(picture, licenses),
        extra={
            "ref": rest(ref, "sentences", "split"),
            "sentence": sentence,
            "image": picture,
        },
        file=file,
    )


def _licenses(instances: dict[str, Any]) -> dict[int, str]:
    """Return number -> name of the licences that the file lists, if it does."""
    rows = instances.get("licenses")
    return {
        row["id"]: row["name"]
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
        and isinstance(row.get("id"), int)
        and isinstance(row.get("name"), str)
    }


def _license(picture: dict[str, Any], licenses: dict[int, str]) -> str:
    number = picture.get("license")
    if not isinstance(number, int) or not number:
        return "COCO pictures, research use"
    return licenses.get(number, f"COCO picture licence {number}")


def _source(name: str, title: str, official: dict[str, int]) -> Source:
    partitions = "{umd,google}" if name == "refcocog" else "{unc,google}"
    return Source(
        name=name,
        title=title,
        family="region",
        files=(
            f"{name}/instances.json",
            f"{name}/refs({partitions}).p",
            "images/mscoco/images/train2014/COCO_train2014_*.jpg",
        ),
        splits=partial(splits, name),
        reader=partial(read, name),
        license="COCO pictures, research use",
        homepage="https://github.com/lichengunc/refer",
        official=official,
        version=2,
    )


REFCOCO = _source(
    "refcoco", "RefCOCO", {"train": 120_624, "val": 10_834, "testA": 5_657, "testB": 5_095}
)
REFCOCO_PLUS = _source(
    "refcoco+", "RefCOCO+", {"train": 120_191, "val": 10_758, "testA": 5_726, "testB": 4_889}
)
REFCOCOG = _source("refcocog", "RefCOCOg", {"train": 80_512, "val": 4_896, "test": 9_602})
