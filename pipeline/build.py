"""A chunk -> staged parts of the catalog: read its pictures, check everything, write Parquet."""

import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import orjson
import pyarrow as pa

from catalog import Catalog
from catalog.images import ImageStore
from catalog.ledger import LedgerEntry
from catalog.parts import write_part
from catalog.record import ImageRef, Record, Refusal
from catalog.schema import refusal_table, sample_rows, with_pictures
from pipeline.checks import Check, Picture, Refused, check_record, inside, measure, read_into
from pipeline.cut import Chunk, Place, Spool, write_whole
from pipeline.items import INGEST_VERSION, no_collection
from pipeline.new_pictures import NewPictures
from pipeline.outside import settled
from pipeline.sources.regions import placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What one chunk became: staged files and counts."""

    key: str
    samples: Path
    images: Path | None
    refusals: Path
    records: int
    pictures: int
    refused: int
    bytes: int
    hashes: dict[str, str]
    """Picture file -> SHA-256, for the cache of file hashes; "" where it is missing."""
    containers: dict[str, str]
    """As in its chunk: what was built from other content is built again."""


@no_collection()
def build(chunk: Chunk, catalog: Path) -> Built:
    """Read a chunk's pictures, check everything, and stage its parts; reuse what a killed run left."""
    if (done := _finished(chunk)) is not None:
        return done
    spool: Spool = pickle.loads(chunk.spool.read_bytes())
    kept: list[int] = []
    changed: dict[int, Record] = {}
    image_ids: list[list[str]] = []
    sizes: list[list[tuple[int, int]]] = []
    refusals: dict[int, tuple[Refusal, ...]] = {n: (one,) for n, one in spool.refusals.items()}
    with NewPictures(chunk.staging / f".{chunk.key}.{os.getpid()}.new") as new:
        store = Catalog.open(catalog).image_store()
        pictures = _Pictures(chunk.root, store, new, chunk.check)
        for row, places in enumerate(spool.pictures()):
            try:
                found = [pictures.of(place) for place in places]
                displayed = [picture.displayed for _, picture in found]
                if (record := spool.unsound.get(row)) is not None:
                    check_record(record)
                    moved, aside = settled(placed(record, displayed), displayed)
                    if moved is not record:
                        changed[row] = moved
                    refusals[spool.positions[row]] = aside
            except Refused as reason:
                refusals[spool.positions[row]] = (spool.refusal(row, chunk.source, reason),)
                continue
            kept.append(row)
            image_ids.append([image_id for image_id, _ in found])
            sizes.append(displayed)
        images = None
        if new.ids:
            # Named by what it holds: the same records may come again with other pictures.
            images = chunk.staging / f"{_digest(sorted(new.ids))}.images.parquet"
            new.finish(images)
    refused = [refusal for position in sorted(refusals) for refusal in refusals[position]]
    fingerprint = _digest([chunk.key, image_ids, refused])
    table = with_pictures(_chosen(spool.rows, kept, changed, chunk.family), image_ids, sizes)
    samples = chunk.staging / f"{fingerprint}.parquet"
    write_part(samples, _entry(chunk, pictures.refused).attach(table), binary=None)
    left_out = chunk.staging / f"{fingerprint}.refusals.parquet"
    write_part(left_out, refusal_table(refused), binary=None)
    built = Built(
        key=chunk.key,
        samples=samples,
        images=images,
        refusals=left_out,
        records=len(kept),
        pictures=len(new.ids),
        refused=len(refused),
        bytes=pictures.bytes,
        hashes=pictures.hashes,
        containers=chunk.containers,
    )
    write_whole(chunk.receipt, orjson.dumps(built, default=str))
    return built


class _Pictures:
    """The pictures of a chunk, each read, hashed and measured when it is first asked for."""

    def __init__(self, root: Path, store: ImageStore, new: NewPictures, check: Check) -> None:
        self._root, self._store, self._new, self._check = root, store, new, check
        self._found: dict[Place, tuple[str, Picture] | Refused] = {}
        self.hashes: dict[str, str] = {}
        """Picture file -> SHA-256, "" where it is missing."""
        self.bytes = 0

    def of(self, place: Place) -> tuple[str, Picture]:
        """Return a picture's id and measures; keep its bytes if the catalog has none of them.

        Raises:
            Refused: it cannot be taken.
        """
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = self._read(place)
        if isinstance(found, Refused):
            raise found
        return found

    def _read(self, place: Place) -> tuple[str, Picture] | Refused:
        path, member = place
        free = self._new.free
        try:
            data = free[: read_into(free, self._root, ImageRef(path=path, member=member))]
            image_id = hashlib.sha256(data).hexdigest()
            if member is None:
                self.hashes[path] = image_id
            picture = _measured(image_id, data, self._check)
        except Refused as reason:
            if member is None:
                self.hashes.setdefault(path, "")
            return reason
        self.bytes += len(data)
        if image_id not in self._new.ids and image_id not in self._store:
            self._new.keep(image_id, picture, len(data))
        return image_id, picture

    @property
    def refused(self) -> dict[str, str]:
        """Files that could not be taken -> SHA-256, "" where missing."""
        return {
            path: self.hashes[path]
            for (path, member), found in self._found.items()
            if isinstance(found, Refused) and member is None
        }


MEASURED: dict[tuple[str, Check], Picture] = {}
"""Pictures this process has checked: shuffled records show one again in every chunk."""
MOST_MEASURED = 200_000


def _measured(image_id: str, data: memoryview, check: Check) -> Picture:
    picture = MEASURED.get((image_id, check))
    if picture is None:
        picture = measure(data, check)
        if len(MEASURED) >= MOST_MEASURED:
            MEASURED.clear()
        MEASURED[image_id, check] = picture
    return picture


def _chosen(
    rows: pa.Table, kept: Sequence[int], changed: Mapping[int, Record], family: str
) -> pa.Table:
    """Return the rows that are kept, those of changed records made again."""
    if len(kept) == len(rows) and not changed:
        return rows
    records = list(changed.values())
    again = sample_rows(records, [record.content_id for record in records], family=family)
    instead = {row: len(rows) + number for number, row in enumerate(changed)}
    both = pa.concat_tables([rows, again]).combine_chunks()
    return both.take(pa.array([instead.get(row, row) for row in kept], pa.int64()))


def _entry(chunk: Chunk, pictures_refused: dict[str, str]) -> LedgerEntry:
    return LedgerEntry(
        source=chunk.source,
        split=chunk.split,
        files=chunk.files,
        key=chunk.key,
        reader_version=chunk.reader_version,
        ingest_version=INGEST_VERSION,
        first=chunk.first,
        count=chunk.count,
        pictures_refused=pictures_refused,
        containers=chunk.containers,
        settings=chunk.settings,
    )


def _digest(values: object) -> str:
    return hashlib.sha256(orjson.dumps(values)).hexdigest()


def _finished(chunk: Chunk) -> Built | None:
    """Return what an earlier run built of this chunk, if its pictures are still the same."""
    if not chunk.receipt.exists():
        return None
    values = json.loads(chunk.receipt.read_bytes())
    if set(values) != {field.name for field in fields(Built)}:
        # A receipt of another version of the program.
        return None
    built = Built(
        **values
        | {
            name: Path(values[name]) if values[name] else None
            for name in ("samples", "images", "refusals")
        }
    )
    paths = (built.samples, built.images, built.refusals)
    if built.containers != chunk.containers:
        return None
    if not all(path is None or path.exists() for path in paths):
        return None
    if any(_content(chunk.root, path) != known for path, known in built.hashes.items()):
        return None
    return built


def _content(root: Path, path: str) -> str:
    try:
        return hashlib.sha256(inside(root, path).read_bytes()).hexdigest()
    except (OSError, Refused, RuntimeError):
        return ""
