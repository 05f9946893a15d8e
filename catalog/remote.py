"""A catalog on S3-compatible storage or Azure Blob, read by ranges: one local shadow of what is small.

The shadow holds the tables' logs, and of each data file a skeleton: a sparse file of the same size with
everything in it but the binary column. All that finds places works on it as on a local file; bytes
of pictures and tokens are fetched, near ones together, and pictures are kept in a bounded cache.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import CuveeError, UserError
from catalog.kept import Cache, write

SCHEMES = ("s3://", "s3a://", "az://", "azure://", "abfs://", "abfss://", "gs://", "memory://")
GAP = 64 * 1024
"""Ranges this near, in bytes, are fetched as one."""
LARGEST = 8 * 1024**2
"""Bytes of a joined request, at most, unless one value is larger."""
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds before the second attempt, doubled each time, and the longest."""
PARALLEL = 64
"""Requests at a time."""
CACHE_BYTES = 8 * 1024**3
FOOTER = 64 * 1024
"""Bytes of a Parquet file fetched for its footer, at first."""

Range = tuple[str, int, int]
"""Path under the catalog, first byte, byte after the last."""
T = TypeVar("T")


def is_remote(path: object) -> TypeGuard[str]:
    """Say whether a catalog's place is an object store's."""
    return isinstance(path, str) and path.startswith(SCHEMES)


class Remote:
    """Reads a prefix of an object store; every request is tried again, with pauses, a bounded number
    of times, and what is shorter than asked for is never handed out."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, str] | None = None,
        shadow: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        try:
            from obstore.store import from_url
        except ModuleNotFoundError as error:
            raise UserError(
                "object stores need obstore", fix="pip install 'cuvee[remote]'"
            ) from error
        self.url = url.rstrip("/")
        self.options = {key.lower(): str(value) for key, value in (options or {}).items()}
        place = hashlib.sha256(self.url.encode()).hexdigest()[:32]
        self.shadow = shadow or _home() / place
        self._prefix = f"{self.shadow.as_posix()}/"
        plain = {k: v for k, v in self.options.items() if not k.endswith("allow_http")}
        # What the options leave out, obstore and Delta Lake take from the environment.
        known = {key.lower(): value for key, value in os.environ.items()} | self.options
        http = any(k.endswith("allow_http") and v == "true" for k, v in known.items())
        client = {"allow_http": http, "timeout": "30s", "connect_timeout": "5s"}
        make: Any = from_url
        try:
            # Its own retries would hide how long a request takes: this class tries again instead.
            quick = {"max_retries": 0}
            self._store = make(self.url, config=plain, client_options=client, retry_config=quick)
        except Exception as error:
            raise UserError(f"{url}: {error}", fix="check the URL and storage options") from error
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="remote")
        self._cache = Cache(self.shadow / ".pictures", cache_bytes)

    def refresh(self) -> None:
        """Fetch what is new of the marks and the tables' logs."""
        for name in ("samples", "images", "refusals", "encodings", "plans"):
            for path, size in self.listed(f"{name}/_delta_log/").items():
                # The last is written again at every checkpoint, maybe in the same size.
                self._copy(path, None if path.endswith("_last_checkpoint") else size)
        self._copy("cuvee.json", None)

    def listed(self, prefix: str = "") -> dict[str, int]:
        """Return path -> size of all files under a prefix."""
        import obstore

        def once() -> dict[str, int]:
            pages = obstore.list(self._store, prefix=prefix)
            return {str(item["path"]): int(item["size"]) for page in pages for item in page}

        return self._again(once, prefix)

    def put(self, path: str, file: Path) -> None:
        """Copy a local file to the store."""
        import obstore

        self._again(lambda: obstore.put(self._store, path, file), path)

    def _copy(self, path: str, size: int | None) -> Path:
        """Fetch a whole file into the shadow, unless it is there."""
        target = self.shadow / path
        if size is None or not target.exists() or target.stat().st_size != size:
            write(target, self._whole(path))
        return target

    def forget(self) -> None:
        """Throw away the pictures kept."""
        self._cache.clear()

    def fetch(self, file: Path) -> Path:
        """Fetch a whole file of the catalog into the shadow, unless it is there."""
        if not file.exists():
            write(file, self._whole(self._path(file)))
        return file

    def _path(self, file: Path) -> str:
        # Asked for every value that is read: Path.relative_to takes longer than all else here.
        return file.as_posix().removeprefix(self._prefix)

    def _whole(self, path: str) -> bytes:
        import obstore

        def once() -> bytes:
            found = obstore.get(self._store, path)
            data = bytes(found.bytes())
            if len(data) != found.meta["size"]:
                raise EOFError(f"{len(data)} of {found.meta['size']} bytes")
            return data

        return self._again(once, path)

    def skeleton(self, file: Path, binary: str = "data") -> Path:
        """Make the local skeleton of an addressable file, unless it is there."""
        if file.exists():
            return file
        import obstore

        path = self._path(file)
        size = int(self._again(lambda: obstore.head(self._store, path), path)["size"])
        start = max(0, size - FOOTER)
        tail = self.ranges([(path, start, size)])[0]
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if length > len(tail):
            start = size - length
            tail = self.ranges([(path, start, size)])[0]
        meta = pq.read_metadata(pa.BufferReader(tail))
        wanted: list[Range] = []
        for group in range(meta.num_row_groups):
            for number in range(meta.num_columns):
                column = meta.row_group(group).column(number)
                if column.path_in_schema != binary:
                    first = column.dictionary_page_offset or column.data_page_offset
                    first = min(first, column.data_page_offset)
                    wanted.append((path, first, first + column.total_compressed_size))
        pieces = self.ranges(wanted)
        new = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}.new")
        new.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as stream:
                stream.truncate(size)
                for (_, first, _), piece in zip(wanted, pieces, strict=True):
                    stream.seek(first)
                    stream.write(piece)
                stream.seek(start)
                stream.write(tail)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
        return file

    def skeletons(self, files: Sequence[Path]) -> list[Path]:
        """Make the skeletons of many files."""
        # Not in the pool of requests: each of these waits for some of its own.
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(self.skeleton, files))

    def ranges(self, wanted: Sequence[Range]) -> list[memoryview]:
        """Return the bytes of ranges, in their order; near ranges of a file are one request.

        Raises:
            CuveeError: a range cannot be read, after all attempts.
        """
        found = [memoryview(b"")] * len(wanted)
        futures = [
            (members, first, self._pool.submit(self._read, path, first, end))
            for path, first, end, members in joined(wanted)
        ]
        for members, first, future in futures:
            data = future.result()
            for member in members:
                _, start, end = wanted[member]
                found[member] = data[start - first : end - first]
        return found

    def _read(self, path: str, first: int, end: int) -> memoryview:
        import obstore

        def once() -> memoryview:
            data = memoryview(obstore.get_range(self._store, path, start=first, end=end))
            if len(data) != end - first:
                raise EOFError(f"{len(data)} of {end - first} bytes")
            return data

        return self._again(once, path)

    def pictures(self, wanted: Sequence[tuple[str, Path, int, int]]) -> list[memoryview]:
        """Return the bytes of pictures: (id, file, first byte, size), kept ones from the cache."""
        kept = self._cache.get([image_id for image_id, *_ in wanted])
        missing = [place for place, data in enumerate(kept) if data is None]
        asked = [
            (self._path(wanted[p][1]), wanted[p][2], wanted[p][2] + wanted[p][3]) for p in missing
        ]
        read = self.ranges(asked)
        self._cache.put({wanted[p][0]: data for p, data in zip(missing, read, strict=True)})
        new = iter(read)
        return [next(new) if data is None else memoryview(data) for data in kept]

    def texts(self, wanted: Sequence[tuple[Path, int, int]]) -> list[memoryview]:
        """Return the bytes of (file, first byte, size)."""
        return self.ranges([(self._path(file), at, at + size) for file, at, size in wanted])

    def _again(self, once: Callable[[], T], path: str = "") -> T:
        """Try until it works, with longer and longer pauses, `ATTEMPTS` times."""
        pause = FIRST_PAUSE
        for attempt in range(ATTEMPTS):
            try:
                return once()
            except FileNotFoundError as error:
                raise CuveeError(f"{self.url}/{path} is not there") from error
            except Exception as error:
                if attempt == ATTEMPTS - 1:
                    raise CuveeError(
                        f"{self.url}/{path} could not be read in {ATTEMPTS} attempts: {error}\n"
                        "Fix: see whether the store answers; then run it again"
                    ) from error
            # Readers that failed together shall not all come back together.
            spread = hashlib.blake2b(f"{os.getpid()} {path} {attempt}".encode()).digest()[0] / 255
            time.sleep(pause * (1 + spread) / 2)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("unreachable")


def joined(wanted: Sequence[Range]) -> list[tuple[str, int, int, list[int]]]:
    """Join near ranges: path, first byte, end, and which of the ranges lie in it.

    >>> joined([("a", 0, 10), ("b", 5, 6), ("a", 20, 30)])
    [('a', 0, 30, [0, 2]), ('b', 5, 6, [1])]
    """
    found: list[tuple[str, int, int, list[int]]] = []
    for member in sorted(range(len(wanted)), key=lambda place: wanted[place]):
        path, first, end = wanted[member]
        if found and found[-1][0] == path:
            _, start, until, members = found[-1]
            if first <= until + GAP and max(end, until) - start <= LARGEST:
                found[-1] = (path, start, max(end, until), [*members, member])
                continue
        found.append((path, first, end, [member]))
    return found


def _home() -> Path:
    place = os.environ.get("XDG_CACHE_HOME")
    return (Path(place) if place else Path.home() / ".cache") / "cuvee"
