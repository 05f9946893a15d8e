"""Delta Lake tables over Parquet files that we write ourselves: create, replace, read one version.

Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from catalog.errors import CuveeError, UserError

RETRIES = 10
"""Another process may commit first; then the commit is done again on what it left."""

T = TypeVar("T")


def create(folder: Path, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Make an empty table, unless it is there; partition columns are added as text."""
    if DeltaTable.is_deltatable(str(folder)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    create_table_with_add_actions(
        str(folder),
        _whole(schema, partition_by),
        [],
        mode="ignore",
        partition_by=list(partition_by),
    )


def _whole(schema: pa.Schema, partition_by: Sequence[str]) -> Schema:
    # Delta cannot promise non-null columns to writers that do not know them.
    fields = [field.with_nullable(True) for field in schema]
    return Schema.from_arrow(pa.schema([*fields, *((name, pa.string()) for name in partition_by)]))


def open_table(folder: Path, version: int | None = None) -> DeltaTable:
    """Return a table at a version, by default its newest.

    Raises:
        UserError: there is no table, or no such version.
    """
    try:
        return DeltaTable(str(folder), version=version)
    except TableNotFoundError as error:
        raise UserError(f"{folder}: no table there", fix="run `cuvee ingest` first") from error
    except DeltaError as error:
        raise UserError(
            f"{folder}: cannot be read at version {version}: {error}",
            fix="ask for a version it has",
        ) from error


def latest_version(folder: Path) -> int:
    """Return a table's newest version."""
    return open_table(folder).version()


def live_files(folder: Path, version: int | None = None, **partition: str) -> list[Path]:
    """Return the files of a table, or of one partition, sorted by path."""
    found = open_table(folder, version).get_add_actions(flatten=True)
    # `pa.table` would import pandas: half a second.
    actions = pa.RecordBatchReader.from_stream(found).read_all()
    wanted = tuple(partition.values())
    columns = [actions[f"partition.{name}"].cast(pa.string()).to_pylist() for name in partition]
    rows = zip(actions["path"].to_pylist(), *columns, strict=True)
    return [folder / path for path, *held in sorted(rows) if tuple(held) == wanted]


def scan(folder: Path, version: int | None = None) -> pl.LazyFrame:
    """Return a lazy frame over a table."""
    return pl.scan_delta(open_table(folder, version))


def scan_remote(url: str, version: int | None, options: Mapping[str, str]) -> pl.LazyFrame:
    """Return a lazy frame over a table on an object store."""
    table = DeltaTable(url, version=version, storage_options=dict(options))
    return pl.scan_delta(table, storage_options=dict(options))


def add(
    folder: Path,
    schema: pa.Schema,
    files: Sequence[Path],
    *,
    partition: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Append files that lie in the table's folder; return the new version."""
    return _commit(folder, schema, files, partition, metadata, mode="append")


def replace(
    folder: Path,
    schema: pa.Schema,
    files: Sequence[Path],
    *,
    partition: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Let one partition consist of these files, in one commit; return the new version."""
    return _commit(folder, schema, files, partition, metadata, mode="overwrite")


def _commit(
    folder: Path,
    schema: pa.Schema,
    files: Sequence[Path],
    partition: Mapping[str, str],
    metadata: Mapping[str, str] | None,
    mode: Literal["append", "overwrite"],
) -> int:
    # A file that stays is removed and added in one commit: readers take the addition.
    actions: list[AddAction | RemoveAction] = [_action(folder, file, partition) for file in files]

    def once() -> int:
        table = DeltaTable(str(folder))
        table.create_write_transaction(
            actions,
            mode=mode,
            schema=_whole(schema, list(partition)),
            partition_by=list(partition),
            partition_filters=(
                [(name, "=", value) for name, value in partition.items()]
                if mode == "overwrite"
                else None
            ),
            commit_properties=CommitProperties(custom_metadata=dict(metadata or {})),
        )
        return DeltaTable(str(folder)).version()

    return retry(once)


def exchange(folder: Path, removed: Sequence[Path], added: Sequence[Path]) -> int:
    """Take files of an unpartitioned table out and others in, in one commit; return the new version.

    Raises:
        CuveeError: the table cannot be written.
    """
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        RemoveAction(file.relative_to(folder).as_posix(), True, now, None, {}) for file in removed
    ]
    actions += [_action(folder, file, {}) for file in added]

    def once() -> int:
        table = DeltaTable(str(folder))
        table.create_write_transaction(actions, mode="append", schema=table.schema())
        return DeltaTable(str(folder)).version()

    try:
        return retry(once)
    except DeltaError as error:
        raise CuveeError(f"{folder} cannot be written: {error}\nFix: check its rights") from error


def retry(action: Callable[[], T]) -> T:
    """Do something until no other process committed in between."""
    for attempt in range(RETRIES):
        try:
            return action()
        except CommitFailedError:
            if attempt == RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def _action(folder: Path, file: Path, partition: Mapping[str, str]) -> AddAction:
    stat = file.stat()
    stats = json.dumps({"numRecords": pq.read_metadata(file).num_rows})
    path = file.relative_to(folder).as_posix()
    return AddAction(path, stat.st_size, dict(partition), int(stat.st_mtime * 1000), True, stats)


def metadata_of(folder: Path, version: int) -> dict[str, str]:
    """Return what was said with the commit of a version."""
    log = folder / "_delta_log" / f"{version:020}.json"
    if not log.exists():
        return {}
    first: dict[str, dict[str, str]] = json.loads(log.read_text().splitlines()[0])
    return first.get("commitInfo", {})


def vacuum(folder: Path, hours: int) -> list[str]:
    """Delete files that no version of the last `hours` uses; return their names."""
    removed = open_table(folder).vacuum(
        retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=True
    )
    return list(removed)
