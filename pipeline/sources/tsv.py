"""VLMEvalKit's benchmark tables: one TSV with pictures as base64 -> Record.

Format: https://github.com/open-compass/VLMEvalKit (docs: Development). `image` holds base64, a list of it,
or the `index` of an earlier row with the same picture; `image_path` may stand instead.
"""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import ImageRef
from pipeline.containers.tables import text_list
from pipeline.limits import Refused
from pipeline.sources.base import Bad, Item, Source, relative, safe
from pipeline.sources.columns import Place, TableOptions, options_of, records
from pipeline.sources.files import csv_rows

REFERENCE = 64
"""A cell of at most so many digits names another row; a picture takes more."""


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
    places: dict[str, tuple[int, str]] = {}
    yield from records(
        "tsv",
        split,
        name,
        _rows(files[0], places),
        options,
        partial(_cells, root, name, places),
        license="as its benchmark says",
    )


def _rows(file: Path, places: dict[str, tuple[int, str]]) -> Iterator[Any]:
    """Yield the rows; a picture's base64 stays where it is: the row says how long it was."""
    try:
        for position, row in enumerate(csv_rows(file, delimiter="\t")):
            if isinstance(row, dict):
                for column in ("image", "image_path"):
                    if column in row and not row[column].strip():
                        del row[column]
                image = row.get("image", "")
                if "index" in row and not _is_reference(image) and image:
                    places[row["index"]] = (position, image[:1])
                if "image" in row:
                    row.pop("image_path", None)
            yield row
    except csv.Error as error:
        raise DataError(f"no TSV: {error}", file=file, fix="take the official file") from error


def _is_reference(text: str) -> bool:
    return len(text) <= REFERENCE and text.isdecimal()


def _cells(root: Path, name: str, places: dict[str, tuple[int, str]], row: int) -> Place:
    return partial(_place, root, name, places, row)


def _place(
    root: Path, name: str, places: dict[str, tuple[int, str]], row: int, column: str, value: Any
) -> list[ImageRef]:
    if not isinstance(value, str) or not value:
        return []
    if column != "image":
        return [ImageRef(path=_found(root, safe(path))) for path in _listed(value)]
    if _is_reference(value):
        if value not in places:
            raise Bad(
                "dangling_image", f"'image' names row {value}, which has no picture before this"
            )
        row, first = places[value]
        return [ImageRef(path=name, member=f"{row}:image" + (".0" if first == "[" else ""))]
    if value.startswith("["):
        return [ImageRef(path=name, member=f"{row}:image.{i}") for i in range(len(_listed(value)))]
    return [ImageRef(path=name, member=f"{row}:image")]


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
        configure=lambda given: _source(options_of("tsv", given)),
    )


TSV = _source(TableOptions())
