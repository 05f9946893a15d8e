"""gzip, zstandard, bzip2 and xz unpacked while they are read, within bounds."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from pipeline.limits import MAX_BYTES, MAX_RATIO, Refused

CUT_OFF = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile)
"""What a damaged packed file raises while it is read."""


class Bounded(io.RawIOBase):
    """Unpacked bytes that stop with a refusal where they outgrow the packed ones."""

    def __init__(self, raw: IO[bytes], unpacked: IO[bytes], name: str) -> None:
        self._raw, self._unpacked, self._name, self._count = raw, unpacked, name, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._unpacked.read(1 << 20 if size is None or size < 0 else size)
        self._count += len(data)
        packed = self._raw.tell()
        if self._count > max(MAX_BYTES, MAX_RATIO * packed):
            raise Refused(
                "zip_bomb", f"{self._name} unpacks {packed:,} to {self._count:,} bytes and more"
            )
        return data

    def close(self) -> None:
        self._unpacked.close()
        self._raw.close()
        super().close()


class _Zstd(io.RawIOBase):
    """Unpacked zstandard frames; unlike the library's own reader it notices an early end."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._data, self._frame = raw, b"", zstandard.ZstdDecompressor().decompressobj()
        self._open = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        while not self._data:
            # Few packed bytes at a time: each may unfold to thousands.
            packed = self._raw.read(8192)
            if not packed:
                if self._open:
                    raise EOFError("the zstandard frame ended early")
                return b""
            parts = []
            while packed:
                parts.append(self._frame.decompress(packed))
                packed, self._open = self._frame.unused_data, not self._frame.eof
                if self._frame.eof:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._data = b"".join(parts)
        size = len(self._data) if size is None or size < 0 else size
        data, self._data = self._data[:size], self._data[size:]
        return data


_MAGIC: dict[bytes, Any] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"\x28\xb5\x2f\xfd": _Zstd,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading forward; gzip, zstandard, bzip2 and xz are unpacked, within bounds.

    What packs it is told by its first bytes, not by its name. `read` may return less than asked for.
    """
    raw = path.open("rb")
    head = raw.read(6)
    raw.seek(0)
    for magic, unpack in _MAGIC.items():
        if head.startswith(magic):
            return cast(IO[bytes], Bounded(raw, unpack(raw), path.name))
    return raw
