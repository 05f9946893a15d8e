"""Which file content was ingested by which reader: the ledger is the set of live samples files.

Each samples file carries its own entry in its Parquet metadata, so the ledger is committed, replaced
and time-travelled with the data. The cache of file hashes is only a cache: lost, it is made again.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

LEDGER_KEY = b"cuvee.ledger"
PUT = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)"
BATCH = 10_000
"""Files looked up together; SQLite takes 32,766 values at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """What one samples file was made from."""

    source: str
    split: str
    files: dict[str, str]
    """Official files of the split, relative to the root -> SHA-256."""
    key: str
    """SHA-256 of the content of the records in this range and of the reader's version."""
    first: int
    """Position of the first record in the split."""
    count: int
    """Records and refusals in the range."""
    pictures_refused: dict[str, str]
    """Pictures that could not be taken -> SHA-256, "" where missing."""
    reader_version: int
    ingest_version: int
    containers: dict[str, str] = field(default_factory=dict)
    """Files that the pictures were read out of -> SHA-256, "" where missing."""
    settings: str = ""
    """Source and options, where a job gave a name or options."""

    def attach(self, table: pa.Table) -> pa.Table:
        """Return the table with this entry in its metadata."""
        metadata = dict(table.schema.metadata or {}) | {LEDGER_KEY: orjson.dumps(asdict(self))}
        return table.replace_schema_metadata(metadata)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the entry of a samples file."""
        return cls(**orjson.loads(pq.read_metadata(file).metadata[LEDGER_KEY]))


def entries_of(files: Iterable[Path]) -> dict[str, LedgerEntry]:
    """Return the entries of samples files, by file stem."""
    return {file.stem: LedgerEntry.read(file) for file in files}


class FileHashes:
    """SHA-256 of files, read again only where size, times or inode changed."""

    def __init__(self, catalog: Path) -> None:
        folder = catalog / ".cache"
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "hashes.sqlite", timeout=60)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, state TEXT, sha256 TEXT)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.commit()
        self._database.close()

    def of(self, file: Path) -> str:
        """Return the SHA-256 of a file's content, as hex; of a folder's: of all names and contents."""
        if file.is_dir():
            return self._of_folder(file)
        state = _state(file)
        row = self._database.execute(
            "SELECT state, sha256 FROM hashes WHERE path = ?", (str(file.absolute()),)
        ).fetchone()
        if row and row[0] == state:
            return str(row[1])
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self._put(file, state, digest)
        return digest

    def _of_folder(self, folder: Path) -> str:
        digest = hashlib.sha256()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(orjson.dumps([file.relative_to(folder).as_posix(), self.of(file)]))
        return digest.hexdigest()

    def of_or_empty(self, file: Path) -> str:
        """Return the SHA-256 of a file's content, or "" where it cannot be read."""
        try:
            return self.of(file)
        except (OSError, RuntimeError):
            return ""

    def changed(self, root: Path, known: Iterable[tuple[str, str]]) -> Iterator[str]:
        """Yield the files below the root whose content is not known by these (path, SHA-256)."""
        top = str(root.absolute())
        left = iter(known)
        while batch := list(islice(left, BATCH)):
            names = [_name(top, path) for path, _ in batch]
            marks = ",".join("?" * len(names))
            query = f"SELECT path, state, sha256 FROM hashes WHERE path IN ({marks})"
            found = set(self._database.execute(query, names))
            for name, (path, digest) in zip(names, batch, strict=True):
                if (name, _state_or_empty(name), digest) not in found and (
                    self.of_or_empty(Path(name)) != digest
                ):
                    yield path

    def learn(self, root: Path, hashes: Mapping[str, str]) -> None:
        """Remember hashes that were computed elsewhere from the files as they are now."""
        top = str(root.absolute())
        names = ((_name(top, path), digest) for path, digest in hashes.items() if digest)
        self._database.executemany(PUT, ((name, _state(name), digest) for name, digest in names))

    def _put(self, file: Path, state: str, digest: str) -> None:
        self._database.execute(PUT, (str(file.absolute()), state, digest))


def _name(top: str, path: str) -> str:
    """Return an absolute name as `Path` writes it.

    >>> _name("/data", "a/b.jpg"), _name("/data", "a//./b.jpg"), _name("/data", "a\\\\b.jpg")
    ('/data/a/b.jpg', '/data/a/b.jpg', '/data/a/b.jpg')
    """
    path = path.replace("\\", "/")
    # What Path would change holds one of these; it takes ten times as long.
    return str(Path(top, path)) if "//" in path or "./" in path else f"{top}/{path}"


def _state(file: Path | str) -> str:
    stat = os.stat(file)  # noqa: PTH116 - a Path for each of a million names takes longer
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _state_or_empty(file: str) -> str:
    try:
        return _state(file)
    except OSError:
        return ""
