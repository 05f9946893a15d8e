"""Samples of a WebDataset shard: the members that share a key, read in place from a tar or a folder.

Rules: https://github.com/webdataset/webdataset. A key is a path up to the first dot of its name; members
of a sample are neighbours.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from pipeline.sources.base import Bad, need, relative

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
TEXTS = ("json", "txt")


@dataclass(frozen=True, slots=True)
class Sample:
    """The members of one key."""

    key: str
    names: list[tuple[str, str]] = field(default_factory=list)
    """(extension, member or path)."""
    texts: dict[str, bytes] = field(default_factory=dict)
    """Content of the members in `TEXTS`, by extension."""

    def picture(self) -> str:
        """Return the sample's one picture.

        Raises:
            Bad: it has none, or several.
        """
        found = [name for extension, name in self.names if extension.lower() in PICTURES]
        if len(found) != 1:
            raise Bad("no_picture" if not found else "many_pictures", f"{len(found)} pictures")
        return found[0]

    def row(self) -> dict[str, Any]:
        """Return what `json` says, or the caption in `txt`.

        Raises:
            Bad: there is neither, or they cannot be read, or they disagree.
        """
        if len({extension for extension, _ in self.names}) < len(self.names):
            raise Bad("duplicate_member", f"an extension occurs twice under {self.key!r}")
        try:
            text = self.texts["txt"].decode() if "txt" in self.texts else None
            parsed = orjson.loads(self.texts["json"]) if "json" in self.texts else {}
        except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
            raise Bad("broken_text", f"{self.key!r}: {error}") from error
        row: dict[str, Any] = need({"json": parsed}, "json", dict)
        known = {value for value in row.values() if isinstance(value, str)}
        # img2dataset repeats the caption in `txt`, and writes a null one as an empty text.
        return row if text is None or text in known or (row and not text) else {"txt": text} | row


def tar_samples(
    file: Path, is_text: Callable[[str], bool] = TEXTS.__contains__
) -> Generator[Sample, None, None]:
    """Yield the samples of a tar or tar.gz, in its order; `is_text` tells which extensions to read.

    Raises:
        DataError: the archive is broken.
    """
    sample = None
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                key, extension = split_key(member.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                sample.names.append((extension, member.name))
                if is_text(extension) and (content := archive.extractfile(member)) is not None:
                    sample.texts[extension] = content.read()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
        raise DataError(
            f"no whole tar: {error}", file=file, fix="download the shard again"
        ) from error
    if sample is not None:
        yield sample


def folder_samples(folder: Path, root: Path) -> Iterator[Sample]:
    """Yield the samples of a folder, in the order of their keys."""
    samples: dict[str, Sample] = {}
    for file in sorted(folder.iterdir()):
        key, extension = split_key(file.name)
        sample = samples.setdefault(key, Sample(key))
        sample.names.append((extension, relative(file, root)))
        if extension in TEXTS:
            sample.texts[extension] = file.read_bytes()
    yield from samples.values()


def split_key(name: str) -> tuple[str, str]:
    """
    >>> split_key("a.b/c.seg.png")
    ('a.b/c', 'seg.png')
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension
