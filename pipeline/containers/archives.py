"""Members of zip and tar archives, read in place: names are looked up, nothing is unpacked to disk.

A name is only ever a key into the archive's own directory, so no member leads out of it.
"""

import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from pipeline.limits import FREE_BYTES, MAX_BYTES, MAX_RATIO, Refused
from pipeline.unpack import CUT_OFF, open_unpacked

BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    UnicodeDecodeError,
    ValueError,
    *CUT_OFF,
)
"""What a damaged archive raises while it is read."""
MAX_LINKS = 8
"""Hard links in a tar are followed so far."""


class Zip:
    """A zip with its central directory in memory."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._archive = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        """Return the names of the files in it."""
        return [info.filename for info in self._archive.infolist() if not info.is_dir()]

    def read(self, member: str) -> bytes:
        """Return the bytes of a member."""
        try:
            info = self._archive.getinfo(member)
        except KeyError:
            raise Refused("missing_file", f"{self._name} has no member {member!r}") from None
        most = max(FREE_BYTES, MAX_RATIO * max(info.compress_size, 1024))
        if info.file_size > MAX_BYTES or info.file_size > most:
            raise Refused(
                "zip_bomb",
                f"{self._name}:{member} unpacks {info.compress_size:,} to {info.file_size:,} bytes",
            )
        if info.flag_bits & 1:
            raise Refused("unreadable_file", f"{self._name}:{member} is encrypted")
        return self._archive.read(info)

    def close(self) -> None:
        self._archive.close()


class Tar:
    """An uncompressed tar with the places of its members in memory."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._name, self._stream = name, stream
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._end = ""
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    self._note(info)
                    _forget(archive)
        except (tarfile.TarError, EOFError) as error:
            if not self._places:
                raise
            self._end = f"; the archive is damaged behind its first {len(self._places):,}: {error}"
        self._size = stream.seek(0, 2)

    def _note(self, info: tarfile.TarInfo) -> None:
        if info.isreg() and not info.issparse():
            self._places[info.name] = (info.offset_data, info.size)
            self._links.pop(info.name, None)
        elif info.islnk():
            self._links[info.name] = info.linkname

    def names(self) -> list[str]:
        """Return the names of the files in it, in their order."""
        return list(self._places)

    def read(self, member: str) -> bytes:
        """Return the bytes of a member."""
        name = member
        for _ in range(MAX_LINKS):
            if name in self._places:
                break
            name = self._links.get(name, name)
        if name not in self._places:
            raise Refused("missing_file", f"{self._name} has no member {member!r}{self._end}")
        offset, size = self._places[name]
        if size > MAX_BYTES:
            raise Refused("too_large", f"{self._name}:{member} has {size:,} bytes")
        if offset + size > self._size:
            raise Refused("unreadable_file", f"{self._name}:{member} is cut off{self._end}")
        self._stream.seek(offset)
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


def _forget(archive: tarfile.TarFile) -> None:
    """Drop tarfile's own list of what it has passed: ours is a tenth of it."""
    cast(Any, archive).members.clear()


def _copy(stream: IO[bytes], target: IO[bytes]) -> None:
    """Copy as much as can be unpacked: a tar that is cut off says so where it ends."""
    try:
        while data := stream.read(1 << 20):
            target.write(data)
    except CUT_OFF:
        target.flush()


class PackedTar:
    """A compressed tar: members are read in passing as long as they are asked for in their order.

    The first that is asked for out of order makes an unnamed temporary file of the whole tar, which
    then is read like any other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: set[str] = set()
        self._whole: Tar | None = None
        self._damage: Refused | None = None
        self._stream = open_unpacked(path)
        try:
            self._archive = tarfile.open(fileobj=self._stream, mode="r|")  # noqa: SIM115
        except BaseException:
            self._stream.close()
            raise
        self._last: tuple[str, bytes] | None = None

    def names(self) -> list[str]:
        """Return the names of the files in it, in their order."""
        return self._unpacked().names()

    def read(self, member: str) -> bytes:
        """Return the bytes of a member."""
        if self._whole is None:
            if self._last is not None and self._last[0] == member:
                return self._last[1]
            if member not in self._passed and (data := self._ahead(member)) is not None:
                self._last = (member, data)
                return data
        return self._unpacked().read(member)

    def _ahead(self, member: str) -> bytes | None:
        """Go forward to a member; None where it does not come, or the archive breaks before."""
        try:
            for info in self._forward():
                self._passed.add(info.name)
                if info.name == member and info.isreg():
                    return self._content(info)
        except BROKEN:
            # Looked up again in what can be unpacked; that read reports the damage.
            return None
        return None

    def _forward(self) -> Iterator[tarfile.TarInfo]:
        while (info := self._archive.next()) is not None:
            _forget(self._archive)
            yield info

    def _content(self, info: tarfile.TarInfo) -> bytes:
        if info.size > MAX_BYTES:
            raise Refused("too_large", f"{self._path.name}:{info.name} has {info.size:,} bytes")
        file = self._archive.extractfile(info)
        data = file.read() if file else b""
        if len(data) < info.size:
            raise Refused("unreadable_file", f"{self._path.name}:{info.name} is cut off")
        return data

    def _unpacked(self) -> Tar:
        if self._damage is not None:
            raise self._damage
        if self._whole is None:
            spill = tempfile.TemporaryFile()  # noqa: SIM115
            try:
                with open_unpacked(self._path) as stream:
                    _copy(stream, spill)
                self._whole = Tar(cast(IO[bytes], spill), self._path.name)
            except BROKEN as error:
                spill.close()
                self._damage = Refused("unreadable_file", f"{self._path.name}: {error}")
                raise self._damage from error
            except BaseException:
                spill.close()
                raise
        return self._whole

    def close(self) -> None:
        self._archive.close()
        self._stream.close()
        if self._whole is not None:
            self._whole.close()


def open_archive(path: Path) -> Zip | Tar | PackedTar:
    """Open an archive by its name."""
    name = path.name.lower()
    if name.endswith(".zip"):
        return Zip(path)
    if name.endswith(".tar"):
        stream = path.open("rb")
        try:
            return Tar(stream, path.name)
        except BaseException:
            stream.close()
            raise
    return PackedTar(path)
