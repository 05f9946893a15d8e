"""Geometry problems in pickles: GeoQA, GeoQA+ and UniGeo -> Record.

Formats: https://github.com/chen-judge/GeoQA, https://github.com/SCNU203/GeoQA-Plus,
https://github.com/chen-judge/UniGeo. Pictures are arrays in the pickle and read from there; a pickle that
names anything but numpy's arrays is refused unread. Which texts a problem has differs between the three
[unverified]: the first one of `TEXTS` is asked, all others are kept.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import DataError
from catalog.record import ImageRef, Record
from pipeline.pickles import load_pickle
from pipeline.sources.base import Bad, Item, Source, first_folder, need, relative, rest
from pipeline.sources.origin import Origin, chosen, hidden, numbered, unique
from pipeline.sources.plain import plain
from pipeline.sources.rows import as_text, texts

IMAGES = ("image", "img")
TEXTS = ("English_problem", "input_text", "question", "subject", "problem")
TYPES = "sub_dataset_dict.pk"
"""Problem -> what is asked: angle, length, area, other."""
FOLDERS = {
    "geoqa": ("GeoQA3", "data/GeoQA3"),
    "geoqa+": ("data/GeoQA2.2", "GeoQA2.2"),
    "unigeo": ("UniGeo", "data/UniGeo"),
}


def splits(source: str, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> (problems,) or (problems, types); each pickle is a split, named by its stem."""
    folder = root / first_folder(root, FOLDERS[source], ".")
    types = tuple(file for file in (folder / TYPES, root / TYPES) if file.exists())[:1]
    files = sorted(file for file in folder.glob("*.pk") if file.name != TYPES)
    return {file.stem: (file, *types) for file in files}


def read(
    source: str, license: str, root: Path, split: str, files: tuple[Path, ...]
) -> Iterator[Item]:
    """Yield one record a problem, in file order.

    Raises:
        DataError: a pickle is broken, holds something else, or asks for code.
    """
    loaded = [load_pickle(file, arrays=True, encodings=("ascii", "latin1")) for file in files]
    wanted = (list, dict)[: len(files)]
    for file, content, kind in zip(files, loaded, wanted, strict=True):
        if not isinstance(content, kind):
            found = f"a {type(content).__name__}, not a {kind.__name__}"
            raise DataError(found, file=file, fix="take the official file")
    types = loaded[1] if len(files) > 1 else {}
    origin = Origin(source=source, split=split, file=relative(files[0], root), license=license)
    rows = ((key, (place, row)) for place, (key, row) in enumerate(numbered(loaded[0], "id")))
    yield from origin.items(unique(rows), partial(_record, types))


def _record(types: Mapping[Any, Any], origin: Origin, key: str, pair: tuple[int, Any]) -> Record:
    place, row = pair
    if not isinstance(row, dict):
        raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
    image = next((name for name in IMAGES if isinstance(row.get(name), np.ndarray)), None)
    if image is None:
        raise Bad("no_picture", f"no array under {' or '.join(IMAGES)}")
    values = plain(rest(row, image))
    text = next((values[name] for name in TEXTS if isinstance(values.get(name), str)), None)
    question = " ".join(texts(values, "token_list")) if text is None else text
    given = [] if hidden(values, "choices") else need(values, "choices", list)
    choices = [as_text(choice) for choice in given]
    known = bool(choices) and not hidden(values, "label")
    proof = not choices and not hidden(values, "proving_sequence")
    number = values.get("id")
    known_type = isinstance(number, int | str) and number in types
    return origin.question(
        key,
        question,
        images=[ImageRef(path=origin.file, member=f"{place}:{image}")],
        target=" ".join(texts(values, "proving_sequence")) if proof else None,
        choices=choices,
        answer_index=chosen(values, "label", choices) if known else None,
        extra=rest(values, "choices", "label")
        | ({"type": plain(types[number])} if known_type else {}),
    )


def _source(
    name: str, title: str, files: str, license: str, homepage: str, official: dict[str, int]
) -> Source:
    return Source(
        name=name,
        title=title,
        family="reasoning",
        files=(files,),
        splits=partial(splits, name),
        reader=partial(read, name, license),
        license=license,
        homepage=homepage,
        official=official,
        note="Which texts a problem has is unverified",
    )


GEOQA = _source(
    "geoqa",
    "GeoQA",
    "GeoQA3/{train,dev,test,pretrain}.pk",
    "unclear: research only",
    "https://github.com/chen-judge/GeoQA",
    {},
)
GEOQA_PLUS = _source(
    "geoqa+",
    "GeoQA+",
    "data/GeoQA2.2/{train,dev,test,Mix-train,Backtrans-train,new-test}.pk",
    "unclear: research only",
    "https://github.com/SCNU203/GeoQA-Plus",
    {},
)
UNIGEO = _source(
    "unigeo",
    "UniGeo",
    "{calculation,proving}_{train,val,test}.pk",
    "unclear: research only",
    "https://github.com/chen-judge/UniGeo",
    {},
)
