"""MultiInstruct: an instruction on a picture and on regions of it, for 62 tasks -> Record.

Format: https://github.com/VT-NLP/MultiInstruct. A region is a text, `x0 y0 x1 y1` in pixels. Where the prompt
or the target says one that the row lists, its mark stands there; options follow the prompt behind `||||`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record, Region, region_mark
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest
from pipeline.sources.each import split_a_file
from pipeline.sources.origin import Origin, hidden, numbered, unique
from pipeline.sources.regions import flags, xyxy
from pipeline.sources.rows import texts

LICENSE = "as the data sets it is made from"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_REGION = re.compile(rf"{_NUMBER}(?: {_NUMBER}){{3}}")


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an instruction, in file order."""
    for file in files:
        origin = Origin(
            source="multiinstruct", split=split, file=relative(file, root), license=LICENSE
        )
        yield from origin.items(unique(numbered(read_rows(file), "unique_id")), _record)


def _record(origin: Origin, key: str, row: Any) -> Record:
    prompt, target = need(row, "prompt", str), need(row, "target", str)
    options = () if hidden(row, "options") else texts(row, "options")
    regions = _regions(row, options)
    picture = [] if hidden(row, "image_path") else [need(row, "image_path", str).removeprefix("./")]
    extra = rest(row, "unique_id", "image_path", "prompt", "target", "options", "region")
    if extra.get("target_txt") == target:
        del extra["target_txt"]
    return origin.question(
        key,
        marked(prompt, list(regions)),
        images=picture,
        target=marked(target, list(regions)),
        answers=(target,),
        choices=options,
        shown=(),
        answer_index=options.index(target) if target in options else None,
        regions=list(regions.values()),
        extra=extra,
    )


def _regions(row: Any, options: tuple[str, ...]) -> dict[str, Region]:
    """Return text -> region of those that the row lists: its own, its options, and those of objects."""
    own = () if hidden(row, "region") else texts(row, "region")
    named = {text: "" for text in (*own, *options) if text in own or _REGION.fullmatch(text)}
    meta = row.get("meta_data")
    objects = meta.get("object_regions") if isinstance(meta, dict) else None
    for name in map(str, objects if isinstance(objects, dict) else ()):
        named |= dict.fromkeys(texts(objects, name), name)
    return {text: _region(text, name) for text, name in named.items()}


def _region(text: str, label: str) -> Region:
    if not _REGION.fullmatch(text):
        raise Bad("bad_box", f"the region {text!r:.60} is not x0 y0 x1 y1")
    box = xyxy([float(cell) for cell in text.split()], "region")
    return Region(label=label, box=box, extra=flags(box, None, None))


def marked(text: str, regions: list[str]) -> str:
    """Return a text with the mark of a region wherever it says one.

    >>> marked("Is 1 2 3 4 in 1 2 3 45?", ["1 2 3 4", "1 2 3 45"])
    'Is <region:0> in <region:1>?'
    """
    if not regions:
        return text
    either = "|".join(re.escape(region) for region in sorted(regions, key=len, reverse=True))
    pattern = rf"(?<![\d.])(?:{either})(?!\d|\.\d)"
    return re.sub(pattern, lambda match: region_mark(regions.index(match[0])), text)


MULTIINSTRUCT = Source(
    name="multiinstruct",
    title="MultiInstruct",
    family="region",
    files=("{train,test}.jsonl with `unique_id`", "raw_datasets/**/*.jpg"),
    splits=split_a_file("train.jsonl", "test.jsonl", keys=("unique_id",)),
    reader=read,
    license=LICENSE,
    homepage="https://github.com/VT-NLP/MultiInstruct",
    note="the files that its own script builds; pictures lie where that script put them",
)
