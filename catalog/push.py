"""A local catalog copied to an object store: data first, each table's log after its data, in order."""

from collections.abc import Callable
from pathlib import Path

from catalog.catalog import MARK, TABLES
from catalog.errors import UserError
from catalog.remote import Remote


def push(
    catalog: Path, remote: Remote, progress: Callable[[int, int], None] | None = None
) -> tuple[int, int]:
    """Upload what the store does not have yet; return the files copied and the bytes.

    Files of a catalog never change under their name, so name and size tell what is there. A reader
    sees a table's new version only when its data are there; a killed copy goes on when run again.
    `progress` is called with the files that are done and their number.

    Raises:
        UserError: no catalog there.
        CuveeError: the store does not take a file.
    """
    if not (catalog / MARK).exists():
        raise UserError(f"{catalog}: no catalog there", fix="run `cuvee ingest` first")
    there = remote.listed()
    files = [catalog / MARK]
    # A samples version names pictures and refusals: these tables go first.
    for table in ("images", "refusals", "encodings", "plans", "samples"):
        found = [file for file in (catalog / table).rglob("*") if file.is_file()]
        kept = [file for file in found if not file.name.startswith(".")]
        files += sorted(kept, key=lambda file: (file.parent.name == "_delta_log", file))
    files += [file for file in (catalog / "encoders").rglob("*") if file.is_file()]
    assert {"images", "refusals", "encodings", "plans", "samples"} == set(TABLES)
    copied = total = 0
    for number, file in enumerate(files, start=1):
        path, size = file.relative_to(catalog).as_posix(), file.stat().st_size
        if there.get(path) != size or file.name == "_last_checkpoint":
            remote.put(path, file)
            copied, total = copied + 1, total + size
        if progress:
            progress(number, len(files))
    return copied, total
