"""Any JSON table: an array, an object of records, a list under a key, or lines -> Record."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.sources.base import Item, Source, read_rows, relative
from pipeline.sources.columns import TableOptions, options_of, records
from pipeline.sources.hf import cells

KINDS = tuple(f"*.{kind}{pack}" for kind in ("json", "jsonl") for pack in ("", ".gz", ".zst"))


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each file as a split of its own, named by what stands before its suffixes."""
    files = sorted(file for kind in KINDS for file in root.glob(kind))
    found: dict[str, tuple[Path, ...]] = {}
    for file in files:
        name = file.name.split(".json")[0]
        found[name] = (*found.get(name, ()), file)
    return found


def read(options: TableOptions, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row, in file order."""
    seen: set[str] = set()
    for file in files:
        yield from records(
            "json_rows",
            split,
            relative(file, root),
            read_rows(file),
            options,
            partial(cells, root, file),
            license="as its publisher says",
            seen=seen,
        )


def _source(options: TableOptions) -> Source:
    return Source(
        name="json_rows",
        title="Any JSON table",
        family="instruction",
        files=("*.json or *.jsonl, also .gz and .zst",),
        splits=splits,
        reader=partial(read, options),
        license=options.license or "as its publisher says",
        homepage="https://www.json.org",
        configure=lambda given: _source(options_of("json_rows", given, "task")),
    )


JSON_ROWS = _source(TableOptions())
