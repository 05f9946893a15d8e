"""Flickr30K Entities -> one Record a caption, its phrases tied to boxes.

Format: https://github.com/BryanPlummer/flickr30k_entities. Phrases stand in the sentence as
`[/EN#chain/type words]` and are found by word, never by search. Coordinates are 1-based; like the
official reader, 1 is subtracted from all four. Captions are numbered from 0 as in Flickr30K's
token file; UNRELATED_CAPTIONS counts from 1. A caption listed there does not describe its picture:
it is kept, and not learnt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from catalog.record import IMAGE, ImageRef, Message, Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, first_folder, refusal
from pipeline.sources.regions import flags
from pipeline.sources.safe_xml import read_xml
from pipeline.sources.spans import GROUND

NAME = "flickr30k_entities"
SPLITS = ("train", "val", "test")
PICTURES = ("flickr30k-images", "flickr30k_images", "images")
OPENING = "[/EN#"
FAR = 1_000_000
"""No coordinate is so large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words of a caption that name something."""

    chain: str
    types: tuple[str, ...]
    words: tuple[str, ...]
    first: int
    """Its first word's place in the caption."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (list of ids, Sentences, Annotations); without lists all pictures are `all`."""
    folders = root / "Sentences", root / "Annotations"
    if not all(folder.is_dir() for folder in folders):
        return {}
    lists = {split: root / f"{split}.txt" for split in SPLITS}
    found: dict[str, tuple[Path, ...]] = {
        split: (file, *folders) for split, file in lists.items() if file.is_file()
    }
    if not found:
        return {"all": folders}
    listed = {key for file, *_ in found.values() for key in _ids(file)}
    return found if _pictures(*folders) <= listed else found | {"unlisted": folders}


def _ids(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").split()


def _pictures(sentences: Path, annotations: Path) -> set[str]:
    return {file.stem for file in sentences.glob("*.txt")} | {
        file.stem for file in annotations.glob("*.xml")
    }


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a caption, pictures in the order of the list, else of their ids."""
    *lists, sentences, annotations = files
    if lists:
        ids = _ids(lists[0])
    else:
        listed = {key for name in SPLITS for key in _listed(root / f"{name}.txt")}
        ids = sorted(_pictures(sentences, annotations) - listed)
    folder, unrelated = first_folder(root, PICTURES, PICTURES[0]), _unrelated(root)
    for key in ids:
        place = f"Sentences/{key}.txt"
        try:
            lines = _lines(sentences, key)
            annotation = _annotation(annotations, key)
        except Bad as bad:
            yield refusal(NAME, split, place, key, bad)
            continue
        for number, line in enumerate(lines):
            try:
                yield _record(
                    split,
                    place,
                    f"{folder}/{key}.jpg",
                    f"{key}#{number}",
                    line,
                    annotation,
                    (key, number + 1) in unrelated,
                )
            except Bad as bad:
                yield refusal(NAME, split, place, f"{key}#{number}", bad)


def _listed(file: Path) -> list[str]:
    return _ids(file) if file.is_file() else []


def _unrelated(root: Path) -> set[tuple[str, int]]:
    """Return (picture, number of the caption from 1) of captions on something else."""
    file = root / "UNRELATED_CAPTIONS"
    found = set()
    lines = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in lines.splitlines():
        words = line.split()
        if not line.startswith("#") and len(words) >= 2 and words[1].isdecimal():
            found.add((words[0], int(words[1])))
    return found


def _lines(folder: Path, key: str) -> list[str]:
    if "/" in key or "\\" in key or key.startswith("."):
        raise Bad("unsafe_path", f"{key!r} is no picture id")
    file = folder / f"{key}.txt"
    if not file.is_file():
        raise Bad("no_sentences", f"no captions of this picture: {file.name} is not there")
    try:
        lines = file.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise Bad("broken_text", f"{file.name} is not UTF-8 at byte {error.start:,}") from error
    kept = [line.rstrip("\r") for line in lines if line.strip()]
    if not kept:
        raise Bad("no_sentences", f"{file.name} is blank")
    return kept


def _annotation(folder: Path, key: str) -> dict[str, Any]:
    """Return an annotation file's content: size, and the objects with their chains."""
    root = read_xml(folder / f"{key}.xml")
    objects = []
    for element in root.iter("object"):
        box = element.find("bndbox")
        values: dict[str, Any] = {"names": [name.text or "" for name in element.findall("name")]}
        if box is not None:
            values["bndbox"] = [_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax")]
        for flag in ("scene", "nobndbox"):
            if element.find(flag) is not None:
                values[flag] = _number(element, flag)
        objects.append(values)
    size = root.find("size")
    sides = ("width", "height", "depth")
    return {
        "filename": root.findtext("filename"),
        "size": None if size is None else [_number(size, side) for side in sides],
        "objects": objects,
    }


def _number(element: Element, key: str) -> int:
    text = element.findtext(key)
    try:
        value = int(text or "")
    except ValueError:
        value = FAR
    if abs(value) >= FAR:
        raise Bad("wrong_type", f"<{key}> is {text!r:.40}, expected a whole number of pixels")
    return value


def phrases(line: str) -> tuple[list[str], list[Phrase]]:
    """Return a sentence's words and its phrases.

    >>> words, [phrase] = phrases("[/EN#15/people/other his son] waits .")
    >>> words, phrase.chain, phrase.types, phrase.words, phrase.first
    (['his', 'son', 'waits', '.'], '15', ('people', 'other'), ('his', 'son'), 0)

    Raises:
        Bad: a phrase does not end, or ends before it began.
    """
    words: list[str] = []
    found: list[Phrase] = []
    opened: tuple[str, tuple[str, ...], int] | None = None
    for token in line.split():
        if token.startswith(OPENING):
            chain, *kinds = token.removeprefix(OPENING).split("/")
            if opened is not None or not chain:
                raise Bad("broken_phrase", f"a phrase begins within another: {line!r:.200}")
            opened = chain, tuple(kinds), len(words)
            continue
        if opened is not None and token.endswith("]"):
            chain, types, first = opened
            words.append(token[:-1])
            inside = tuple(words[first:])
            if not any(inside):
                raise Bad("broken_phrase", f"a phrase without words: {line!r:.200}")
            found.append(Phrase(chain=chain, types=types, words=inside, first=first))
            opened = None
            continue
        words.append(token)
    if opened is not None:
        raise Bad("broken_phrase", f"a phrase does not end: {line!r:.200}")
    return words, found


def _record(
    split: str,
    file: str,
    picture: str,
    native_id: str,
    line: str,
    annotation: dict[str, Any],
    unrelated: bool,
) -> Record:
    words, named = phrases(line)
    text, regions = _grounded(words, named, annotation)
    extra = {"sentence": line, "annotation": annotation}
    return Record(
        source=NAME,
        split=split,
        native_id=native_id,
        task="caption",
        images=(ImageRef(path=picture),),
        messages=(
            Message(role="user", content=f"{IMAGE}\n{GROUND}"),
            Message(role="assistant", content=text, loss=False if unrelated else None),
        ),
        answers=(" ".join(words),),
        regions=tuple(regions),
        license="Flickr terms of use, non-commercial research and education",
        extra=extra | ({"unrelated": True} if unrelated else {}),
        file=file,
    )


def _grounded(
    words: Sequence[str], named: Sequence[Phrase], annotation: dict[str, Any]
) -> tuple[str, list[Region]]:
    """Return the caption with the marks of its phrases' boxes, and all phrases as regions."""
    size = annotation["size"] or (None, None, None)
    text, done = "", 0
    regions: list[Region] = []
    for phrase in named:
        before = " ".join(words[done : phrase.first])
        text = " ".join(part for part in (text, before) if part)
        text += " " if text else ""
        span = len(text), len(text) + len(" ".join(phrase.words))
        text += " ".join(phrase.words)
        done = phrase.first + len(phrase.words)
        boxes = [
            entry
            for entry in annotation["objects"]
            if phrase.chain in entry["names"] and phrase.chain != "0"
        ]
        drawn = []
        for entry in boxes or [{}]:
            corners = entry.get("bndbox")
            box = None if corners is None else _from_one(corners)
            if box is not None:
                drawn.append(len(regions))
            regions.append(
                Region(
                    label=" ".join(phrase.words),
                    box=box,
                    span=span,
                    extra={"chain": phrase.chain, "types": list(phrase.types)}
                    | {"first_word_index": phrase.first}
                    | {flag: entry[flag] for flag in ("scene", "nobndbox") if flag in entry}
                    | ({} if box is None else flags(box, size[0], size[1])),
                )
            )
        if drawn:
            text += f" {region_mark(*drawn)}"
    return " ".join(part for part in (text, " ".join(words[done:])) if part), regions


def _from_one(corners: list[int]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value - 1) for value in corners)
    return x0, y0, x1, y1


FLICKR30K_ENTITIES = Source(
    name=NAME,
    title="Flickr30K Entities",
    family="region",
    files=(
        "Sentences/*.txt",
        "Annotations/*.xml",
        "{train,val,test}.txt",
        "UNRELATED_CAPTIONS",
        "flickr30k-images/*.jpg",
    ),
    splits=splits,
    reader=read,
    license="Flickr terms of use, non-commercial research and education",
    homepage="https://github.com/BryanPlummer/flickr30k_entities",
    official={"train": 148_915, "val": 5_000, "test": 5_000},
)
