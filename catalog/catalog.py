"""The catalog: a folder of Delta tables, opened at one version."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from catalog import schema, tables
from catalog.errors import UserError
from catalog.images import ImageStore
from catalog.parts import write_part
from catalog.remote import CACHE_BYTES, Remote, is_remote
from catalog.remote_images import RemoteImages

MARK = "cuvee.json"
TABLES: dict[str, tuple[pa.Schema, tuple[str, ...]]] = {
    "samples": (schema.SAMPLES, ("source",)),
    "images": (schema.IMAGES, ()),
    "refusals": (schema.REFUSALS, ("source",)),
    "encodings": (schema.ENCODINGS, ("encoder", "source")),
    "plans": (pa.schema([]), ("plan",)),
}
"""Table -> columns in its files, partition columns. The columns of `plans` are those of its first plan."""


class Catalog:
    """What the data are: samples, pictures, refusals, encodings and plans.

    The version is that of the table `samples`; its commit says which versions of the other tables
    belong to it. Pictures are only ever added, so an older catalog finds all of its own.
    """

    def __init__(
        self,
        path: Path,
        version: int,
        refusals_version: int | None,
        remote: Remote | None = None,
    ) -> None:
        self.path = path
        """The catalog's folder; of one on an object store, its local shadow."""
        self.remote = remote
        self.version = version
        self._refusals_version = refusals_version

    @classmethod
    def create(cls, path: Path | str) -> "Catalog":
        """Make the folder and its empty tables, unless they are there."""
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file", fix="name a folder for the catalog")
        for name, (columns, partition_by) in TABLES.items():
            if name != "plans":
                tables.create(path / name, columns, partition_by)
        _write_mark(path)
        return cls.open(path)

    @classmethod
    def open(
        cls,
        path: Path | str,
        version: int | None = None,
        *,
        storage_options: Mapping[str, str] | None = None,
        shadow: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> "Catalog":
        """Open a catalog at a version, by default the newest; one on an object store for reading.

        Args:
            path: a folder, or a URL such as `s3://bucket/prefix` or `az://container/prefix`.
            version: of the table `samples`.
            storage_options: of the object store, as Delta Lake and obstore name them.
            shadow: where the local shadow of an object store lies; by default in the user's cache.
            cache_bytes: pictures of an object store kept in the shadow, at most.

        Raises:
            UserError: no catalog there, no such version, or it was made by a newer program.
        """
        remote = None
        if isinstance(path, str) and is_remote(path):
            remote = Remote(path, storage_options, shadow, cache_bytes)
            remote.refresh()
            path = remote.shadow
        path = Path(path)
        if not (path / MARK).exists():
            raise UserError(
                f"{path}: no catalog there", fix="run `cuvee ingest … --catalog DIR` first"
            )
        found = orjson.loads((path / MARK).read_bytes()).get("schema", 0)
        if found > schema.SCHEMA_VERSION:
            raise UserError(
                f"{path}: schema version {found}, this program knows {schema.SCHEMA_VERSION}",
                fix="upgrade cuvee",
            )
        table = tables.open_table(path / "samples", version)
        said = tables.metadata_of(path / "samples", table.version())
        refusals = said.get("refusals_version")
        return cls(path, table.version(), None if refusals is None else int(refusals), remote)

    def samples(self) -> pl.LazyFrame:
        """Return all samples of this version."""
        return self._scan("samples", self.version)

    def images(self) -> pl.LazyFrame:
        """Return all stored pictures."""
        return self._scan("images")

    def refusals(self) -> pl.LazyFrame:
        """Return what was refused, and why."""
        return self._scan("refusals", self._refusals_version)

    def encodings(self, encoder: str) -> pl.LazyFrame:
        """Return the encodings made by one encoder (its fingerprint)."""
        return self._scan("encodings").filter(pl.col("encoder") == encoder)

    def _scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        if self.remote:
            return tables.scan_remote(f"{self.remote.url}/{table}", version, self.remote.options)
        return tables.scan(self.path / table, version)

    def sources(self) -> list[str]:
        """Return the names of the sources that have been ingested."""
        return sorted(self._samples_files)

    def families(self) -> dict[str, str]:
        """Return the family of each source, which all of its samples share."""
        families = {}
        for name, files in self._samples_files.items():
            rows = pl.scan_parquet(files).select("family").head(1).collect()
            if len(rows):
                families[name] = str(rows["family"][0])
        return families

    def files(self, table: str, **partition: str) -> list[Path]:
        """Return a table's live files, or those of one partition, sorted by path."""
        if table == "samples":
            found = self._samples_files
            chosen = [found.get(partition["source"], [])] if partition else found.values()
            return [file for files in chosen for file in files]
        version = {"refusals": self._refusals_version}.get(table)
        return tables.live_files(self.path / table, version, **partition)

    def encoders(self) -> list[str]:
        """Return the fingerprints of the encoders that have encoded samples."""
        return sorted({_value(file, "encoder") for file in self.files("encodings")})

    def encoded(self, encoder: str) -> dict[str, list[Path]]:
        """Return source -> the encodings files of this version's samples files that there are."""
        found: dict[str, list[Path]] = {}
        for file in self.encoding_parts(encoder):
            found.setdefault(_value(file, "source"), []).append(file)
        return found

    def encoding_parts(self, encoder: str) -> list[Path]:
        """Return the encodings files of this version's samples files, in the same order.

        A samples file that was not encoded has none.
        """
        live = {
            (_value(file, "source"), file.stem): file
            for file in self.files("encodings", encoder=encoder)
        }
        wanted = [(_value(file, "source"), file.stem) for file in self.files("samples")]
        found = [live[key] for key in wanted if key in live]
        return self.remote.skeletons(found) if self.remote else found

    def counts(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Return source -> split -> (records, records refused)."""
        counts: dict[str, dict[str, tuple[int, int]]] = {}
        samples = self.samples().group_by("source", "split").len().collect()
        # A region set aside is refused; its record was kept, and is counted once.
        whole = self.refusals().filter(~pl.col("record").str.contains(r"/region \d+$"))
        refusals = whole.group_by("source", "split").len().collect()
        for source, split, number in samples.iter_rows():
            counts.setdefault(source, {})[split] = (number, 0)
        for source, split, number in refusals.iter_rows():
            kept = counts.setdefault(source, {}).get(split, (0, 0))[0]
            counts[source][split] = (kept, number)
        return counts

    @cached_property
    def _samples_files(self) -> dict[str, list[Path]]:
        """Source -> its samples files: this version's never change."""
        found: dict[str, list[Path]] = {}
        for file in tables.live_files(self.path / "samples", self.version):
            found.setdefault(_value(file, "source"), []).append(file)
        return found

    @cached_property
    def _images(self) -> ImageStore:
        if self.remote:
            return RemoteImages(self.files("images"), self.path / ".cache", self.remote)
        return ImageStore(self.files("images"), self.path / ".cache")

    def image_store(self) -> ImageStore:
        """Return the store of all pictures."""
        return self._images

    def image_bytes(self, image_id: str) -> memoryview:
        """Return the original bytes of a picture, without copying them.

        Raises:
            UserError: no such picture.
        """
        return self._images.get(image_id)

    def plan_file(self, plan_id: str) -> Path:
        """Return the local file of a committed plan, by its id or the id's beginning.

        Raises:
            UserError: there is no such plan, or more than one.
        """
        found = [
            file
            for file in tables.live_files(self.path / "plans")
            if file.parent.name.startswith(f"plan={plan_id}")
        ]
        if len(found) != 1:
            raise UserError(
                f"{len(found)} plans named {plan_id or '(any)'}",
                fix="`cuvee plan RECIPE --catalog DIR` prints the id",
            )
        return self.remote.fetch(found[0]) if self.remote else found[0]

    def picture_files(self, source: str) -> Iterator[tuple[str, str]]:
        """Yield (path relative to the root, picture id) of a source's pictures that are plain files."""
        files = self.files("samples", source=source)
        if not files:
            return
        frame = (
            pl.scan_parquet(files)
            .select("images", "image_ids")
            .explode("images", "image_ids")
            .drop_nulls("image_ids")
            .filter(pl.col("images").struct.field("member").is_null())
            .select(pl.col("images").struct.field("path"), "image_ids")
            .unique(maintain_order=True)
        )
        yield from frame.collect().iter_rows()

    def commit_source(
        self,
        source: str,
        *,
        samples: Sequence[Path],
        images: Sequence[Path] = (),
        refusals: Sequence[Path] = (),
    ) -> "Catalog":
        """Let a source consist of these staged files, in one visible step; return the new catalog.

        Pictures come first and refusals second: a run killed in between leaves pictures that nobody
        refers to yet, and the next run commits the same files again.
        """
        self._add_pictures(images)
        refused = [_move(file, self.path / "refusals", source) for file in refusals]
        placed = [_move(file, self.path / "samples", source) for file in samples]
        newest = Catalog.open(self.path)
        if sorted(refused) == newest.files("refusals", source=source):
            refusals_version = tables.latest_version(self.path / "refusals")
        else:
            refusals_version = tables.replace(
                self.path / "refusals", schema.REFUSALS, refused, partition={"source": source}
            )
        if sorted(placed) != newest.files("samples", source=source):
            tables.replace(
                self.path / "samples",
                schema.SAMPLES,
                placed,
                partition={"source": source},
                metadata={
                    "refusals_version": str(refusals_version),
                    "images_version": str(tables.latest_version(self.path / "images")),
                },
            )
        return Catalog.open(self.path)

    def _add_pictures(self, staged: Sequence[Path]) -> None:
        """Store the pictures that are new; a part with known ones is written again without them."""
        seen = (
            {
                image_id
                for file in tables.live_files(self.path / "images")
                for image_id in pl.read_parquet(file, columns=["image_id"])["image_id"]
            }
            if staged
            else set()
        )
        placed = []
        for file in staged:
            if not file.exists():
                # A killed run had moved it: it is live, or it lies where it belongs.
                continue
            ids = pq.read_table(file, columns=["image_id"])["image_id"].to_pylist()
            fresh = [image_id not in seen for image_id in ids]
            seen.update(ids)
            if not any(fresh):
                continue
            target = self.path / "images" / file.name
            if all(fresh):
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(file, target)
            else:
                write_part(target, pq.read_table(file).filter(pa.array(fresh)), binary="data")
            placed.append(target)
        if placed:
            tables.add(self.path / "images", schema.IMAGES, placed, partition={})

    def commit_encodings(self, encoder: str, source: str, files: Sequence[Path]) -> None:
        """Add staged encodings files of one source; those already there are left."""
        folder = self.path / "encodings"
        live = {file.stem for file in tables.live_files(folder, encoder=encoder, source=source)}
        fresh = [file for file in files if file.stem not in live]
        placed = []
        for file in fresh:
            target = folder / f"encoder={encoder}" / f"source={source}" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            placed.append(target)
        if placed:
            partition = {"encoder": encoder, "source": source}
            tables.add(folder, schema.ENCODINGS, placed, partition=partition)

    def commit_plan(self, plan_id: str, file: Path) -> Path:
        """Add a plan's file; return where it lies. A plan that is there is left as it is."""
        folder = self.path / "plans"
        columns = pq.read_schema(file).remove_metadata()
        tables.create(folder, columns, ("plan",))
        target = folder / f"plan={plan_id}" / "plan.parquet"
        if target in tables.live_files(folder, plan=plan_id):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        tables.add(folder, columns, [target], partition={"plan": plan_id})
        return target

    def vacuum(self, hours: int = 7 * 24) -> int:
        """Delete files that no version of the last `hours` uses; return how many."""
        return sum(
            len(tables.vacuum(self.path / name, hours))
            for name in TABLES
            if (self.path / name / "_delta_log").exists()
        )


def _value(file: Path, partition: str) -> str:
    """Return the value of a partition column from a file's path."""
    for part in file.parts:
        if part.startswith(f"{partition}="):
            return part.removeprefix(f"{partition}=")
    raise AssertionError(f"{file} is in no {partition}")


def _move(file: Path, table: Path, source: str) -> Path:
    target = table / f"source={source}" / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not target.exists():
        _link(file, target)
    return target


def _link(file: Path, target: Path) -> None:
    """Let a staged file stand in its table too: until the commit, a rerun finds it where it was."""
    target.unlink(missing_ok=True)
    os.link(file, target)


def _write_mark(path: Path) -> None:
    if not (path / MARK).exists():
        new = path / f".{MARK}.new"
        new.write_bytes(orjson.dumps({"schema": schema.SCHEMA_VERSION}))
        new.replace(path / MARK)
