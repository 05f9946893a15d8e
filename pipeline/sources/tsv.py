"""VLMEvalKit's benchmark tables: one TSV with pictures as base64 -> Record.

Format: https://github.com/open-compass/VLMEvalKit (docs: Development). `image` holds base64, a list of it,
or, in at most 64 characters, the `index` of another row, earlier or later, whose pictures are meant;
`image_path` may stand instead. Base64 is in the picture store and not in `extra`, an `index` is.
An answer spelt as a list is a list of references.
"""

import contextlib
import csv
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import ImageRef
from pipeline.containers.tables import text_list
from pipeline.limits import Refused
from pipeline.sources.base import Bad, Item, Source, relative, safe
from pipeline.sources.columns import TableOptions, options_of, records
from pipeline.sources.files import csv_rows

REFERENCE = 64
"""A cell of at most so many characters names another row; a picture takes more."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each table with a header we know as a split of its own, named by its stem."""
    return {file.stem: (file,) for file in sorted(root.glob("*.tsv")) if _is_table(file)}


def _is_table(file: Path) -> bool:
    with file.open("rb") as stream:
        header = stream.readline(65_536).removeprefix(b"\xef\xbb\xbf")
    names = {name.strip().strip(b'"') for name in header.split(b"\t")}
    return b"question" in names and b"index" in names


def read(options: TableOptions, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, in file order."""
    name = relative(files[0], root)
    places = _Places(files[0])
    yield from records(
        "tsv",
        split,
        name,
        _rows(files[0]),
        options,
        lambda row: partial(_place, root, name, places, row),
        license="as its benchmark says",
    )


def _rows(file: Path) -> Iterator[Any]:
    try:
        for row in csv_rows(file, delimiter="\t"):
            if isinstance(row, dict):
                for column in ("image", "image_path"):
                    if column in row and not row[column].strip():
                        del row[column]
                if "image" in row:
                    row.pop("image_path", None)
                if (answer := row.get("answer", "")).startswith("["):
                    with contextlib.suppress(Refused):  # in brackets, and no list
                        row["answer"] = text_list(answer)
            yield row
    except csv.Error as error:
        raise DataError(f"no TSV: {error}", file=file, fix="take the official file") from error


def _is_reference(text: str) -> bool:
    return len(text) <= REFERENCE and not text.startswith("[")


class _Places:
    """Where in a table the pictures of each `index` are; the table is looked through when first asked."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @cached_property
    def _of(self) -> dict[str, tuple[int, int | None]]:
        """`index` -> row, and how many pictures its cell lists, None where it is one picture."""
        found: dict[str, tuple[int, int | None]] = {}
        for position, row in enumerate(csv_rows(self._file, delimiter="\t")):
            image = row.get("image", "") if isinstance(row, dict) else ""
            if image and not _is_reference(image) and "index" in row:
                count = len(_listed(image)) if image.startswith("[") else None
                found.setdefault(row["index"], (position, count))
        return found

    def members(self, index: str) -> list[str]:
        """Return the members that hold the pictures of an index; none where it has no picture."""
        if index not in self._of:
            return []
        return _members(*self._of[index])


def _members(row: int, count: int | None) -> list[str]:
    return [f"{row}:image"] if count is None else [f"{row}:image.{i}" for i in range(count)]


def _place(
    root: Path, name: str, places: _Places, row: int, column: str, value: Any
) -> list[ImageRef]:
    if not isinstance(value, str) or not value:
        return []
    if column != "image":
        return [ImageRef(path=_found(root, safe(path))) for path in _listed(value)]
    if _is_reference(value):
        members = places.members(value)
        if not members and "." in value and (root / (path := _found(root, safe(value)))).is_file():
            return [ImageRef(path=path)]
        if not members:
            raise Bad("dangling_image", f"'image' names row {value}, which has no picture")
    else:
        members = _members(row, len(_listed(value)) if value.startswith("[") else None)
    return [ImageRef(path=name, member=member) for member in members]


def _listed(value: str) -> list[str]:
    if not value.startswith("["):
        return [value]
    try:
        return text_list(value)
    except Refused as refused:
        raise Bad(refused.reason, refused.message) from refused


def _found(root: Path, path: str) -> str:
    """VLMEvalKit unpacks pictures into `images/`."""
    return (
        path
        if (root / path).exists() or not (root / "images" / path).exists()
        else f"images/{path}"
    )


def _source(options: TableOptions) -> Source:
    return Source(
        name="tsv",
        title="VLMEvalKit tables",
        family="vqa",
        files=("*.tsv with `index`, `question` and `image` (base64) or `image_path`",),
        splits=splits,
        reader=partial(read, options),
        license=options.license or "as its benchmark says",
        homepage="https://github.com/open-compass/VLMEvalKit",
        configure=lambda given: _source(options_of("tsv", given, "task")),
        version=2,
    )


TSV = _source(TableOptions())
