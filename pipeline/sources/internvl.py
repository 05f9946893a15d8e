"""InternVL's meta file, which lists JSON Lines files of LLaVA's form with their image roots -> Record.

Format: https://internvl.readthedocs.io/en/latest/get_started/chat_data_format.html

Each name of the meta file is a split that holds every line once: `repeat_time`, by which InternVL
takes a part of a file or repeats it, belongs into a recipe, and stays in `extra` under `meta`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from pipeline.sources import boxed
from pipeline.sources.base import Bad, Item, Source, read_json, refusal, relative, rest
from pipeline.sources.boxed import with_regions
from pipeline.sources.dialog import Dialog, dialog_of, local
from pipeline.sources.each import matching, reader

LICENSE = "per source"
LARGEST = 16 * 1024**2
"""Largest meta file, in bytes: larger JSON files are data."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return a split for each name, read from the meta file and, where it is there, the annotation.

    Raises:
        DataError: two meta files use one name, or one is no JSON.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for meta in matching(root, ("*.json", "shell/data/*.json"), ("annotation",)):
        content = read_json(meta) if meta.stat().st_size <= LARGEST else None
        if not isinstance(content, dict):
            continue
        for name, entry in content.items():
            if not isinstance(entry, dict) or "annotation" not in entry:
                continue
            if name in found:
                raise DataError(
                    f"{found[name][0].name} has the same name",
                    file=meta,
                    record=name,
                    fix="give one meta file, or rename the entry",
                )
            found[name] = (meta, *_annotation(root, entry))
    return found


def _annotation(root: Path, entry: dict[str, Any]) -> tuple[Path, ...]:
    try:
        file = root / local(root)(entry["annotation"])
    except (Bad, AttributeError):
        return ()
    return (file,) if file.is_file() else ()


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a line of a split's annotation."""
    meta, *annotations = files
    entry = read_json(meta)[split]
    if not annotations:
        bad = Bad("missing_file", f"no file {entry['annotation']!r:.200} under the folder")
        yield refusal("internvl", split, relative(meta, root), split, bad)
        return
    say = partial(_say, entry)
    yield from reader("internvl", LICENSE, say)(root, split, tuple(annotations))


def _say(entry: dict[str, Any], root: Path, row: dict[str, Any]) -> Dialog:
    folder = entry.get("root") or ""
    if not isinstance(folder, str):
        raise Bad("wrong_type", f"the meta file's 'root' is {folder!r:.80}, expected str")
    below = local(root)
    said = dialog_of(row, at=lambda path: below(f"{folder.rstrip('/')}/{path}" if folder else path))
    if settings := rest(entry, "root", "annotation", "length"):
        said.extra["meta"] = settings
    return with_regions(said, row, boxed.INTERNVL)


INTERNVL = Source(
    name="internvl",
    title="InternVL meta file",
    family="instruction",
    files=("*.json or shell/data/*.json: name -> root, annotation", "the *.jsonl it names"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/OpenGVLab/InternVL",
    note="Videos are refused; `repeat_time` belongs into a recipe",
)
