"""What a source is, and the small checks that all readers share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from catalog.errors import DataError, UserError
from catalog.record import Record, Refusal
from pipeline.bad import Bad
from pipeline.json_file import read_json, read_list, read_rows

Family = Literal["vqa", "reasoning", "caption", "ocr", "region", "instruction", "text"]
Item = Record | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One dataset: where its official files lie, and the pure generator that reads them."""

    name: str
    title: str
    family: Family
    files: tuple[str, ...]
    """Official file names relative to the root, as users see them."""
    splits: Callable[[Path], dict[str, tuple[Path, ...]]]
    """Root -> the splits found there with the annotation files each is read from.

    Where a release has a small file for every picture, their folder stands for all of them.
    """
    reader: Callable[[Path, str, tuple[Path, ...]], Iterator[Item]]
    """(root, split, its files) -> items in file order. No picture is opened."""
    license: str
    homepage: str
    official: Mapping[str, int] = field(default_factory=dict)
    """Split -> records the release is stated to hold."""
    unverified: tuple[str, ...] = ()
    """Splits whose official count could not be found in public material."""
    note: str = ""
    """What a user should know first: what is unverified, or not read."""
    version: int = 1
    """Raise when the same files give other records."""
    configure: "Callable[[Mapping[str, Any]], Source] | None" = None
    """Options of a job -> the source as they shape it; None: it takes none. Raises `UserError`."""

    @property
    def sizes(self) -> list[str]:
        """The official counts, as `train 4,241`, split by split."""
        return [
            f"{split} {count:,}{' (unverified)' if split in self.unverified else ''}"
            for split, count in self.official.items()
        ]

    def of_job(self, name: str, options: Mapping[str, Any]) -> "Source":
        """Return the source under a job's name and with its options.

        Raises:
            UserError: it takes no options, or not these.
        """
        source = self
        if options:
            if self.configure is None:
                raise UserError(
                    f"{self.name} takes no options, but has {', '.join(options)}",
                    fix="leave them out: its format says all; hf, tsv, json_rows, webdataset and "
                    "documents take options",
                )
            source = self.configure(options)
        if name == source.name:
            return source
        return replace(source, name=name, reader=partial(_renamed, source.reader, name))

    def found(self, root: Path) -> dict[str, tuple[Path, ...]]:
        """Return the splits in a folder.

        Raises:
            UserError: the folder is missing, or holds none of the source's files.
        """
        if not root.is_dir():
            raise UserError(f"{root} is not a folder", fix="check the path")
        splits = self.splits(root)
        if not splits:
            raise UserError(
                f"{root} holds no files of {self.name}",
                fix=f"it should hold {', '.join(self.files)}; it holds {listing(root)}",
            )
        return splits

    def read(self, root: Path, split: str) -> Iterator[Item]:
        """Yield the records and refusals of a split, in file order.

        Raises:
            DataError: a file is broken.
            UserError: no such split.
        """
        splits = self.found(root)
        if split not in splits:
            raise UserError(
                f"{self.name}: no split {split!r} in {root}", fix=f"one of {', '.join(splits)}"
            )
        return self.reader(root, split, splits[split])


def _renamed(
    reader: Callable[[Path, str, tuple[Path, ...]], Iterator[Item]],
    name: str,
    root: Path,
    split: str,
    files: tuple[Path, ...],
) -> Iterator[Item]:
    for item in reader(root, split, files):
        yield replace(item, source=name)


def refusal(source: str, split: str, file: str, record: object, bad: Bad) -> Refusal:
    """Return the refusal of a record."""
    return Refusal(
        source=source,
        split=split,
        reason=bad.reason,
        file=file,
        record=str(record),
        message=bad.message,
    )


def listing(root: Path, limit: int = 8) -> str:
    """Return the first names in a folder, for a message."""
    names = sorted(
        entry.name + ("/" if entry.is_dir() else "") for entry in islice(root.iterdir(), 1000)
    )
    more = f", … ({len(names)} entries)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "nothing"


def relative(file: Path, root: Path) -> str:
    """Return a file's POSIX path relative to the root."""
    return file.relative_to(root).as_posix()


def safe(path: Any) -> str:
    """Return a picture's path if it is text and stays inside the dataset folder."""
    if not isinstance(path, str):
        raise Bad("wrong_type", f"a picture's path is {path!r}, not text")
    parts = path.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or "\0" in path:
        raise Bad("unsafe_path", f"{path!r} does not stay inside the dataset folder")
    short = len(path) <= 255 and path.isascii()
    if not short and (
        len(path) > 1000 or any(len(part.encode(errors="surrogatepass")) > 255 for part in parts)
    ):
        raise Bad("unsafe_path", f"{path[:80]!r}... is longer than a path can be")
    return path


def need(record: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field of an official record.

    Raises:
        Bad: the record is no object, lacks the field, or holds another type.
    """
    if not isinstance(record, dict):
        raise Bad("wrong_type", f"the record is {type(record).__name__}, not an object")
    if key not in record:
        raise Bad("missing_field", f"no field {key!r}")
    value = record[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(k.__name__ for k in kinds)
        raise Bad("wrong_type", f"{key!r} is {value!r:.80}, expected {wanted}")
    return value


def rest(record: Any, *taken: str) -> dict[str, Any]:
    """Return the fields that no typed field has taken.

    Raises:
        Bad: the record is no object.
    """
    if not isinstance(record, dict | Mapping):
        raise Bad("wrong_type", f"the record is {type(record).__name__}, not an object")
    left = dict(record)
    for key in taken:
        left.pop(key, None)
    return left


def first_folder(root: Path, candidates: Sequence[str], default: str) -> str:
    """Return the first of the folders that exists under the root."""
    return next((name for name in candidates if (root / name).is_dir()), default)


def data_rows(content: Any, file: Path) -> list[Any]:
    """Return the list under `data` of an official file.

    Raises:
        DataError: there is none.
    """
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise DataError("no list 'data'", file=file, fix="take the official file")
    rows: list[Any] = content["data"]
    return rows


def is_conversation_file(file: Path, keys: Sequence[str]) -> bool:
    """Tell by a file's first 64 KiB whether its records have one of these keys."""
    with file.open("rb") as stream:
        head = stream.read(65_536)
    return any(f'"{key}"'.encode() in head for key in keys)


__all__ = [
    "Bad",
    "Family",
    "Item",
    "Source",
    "data_rows",
    "first_folder",
    "is_conversation_file",
    "need",
    "read_json",
    "read_list",
    "read_rows",
    "refusal",
    "relative",
    "rest",
    "safe",
]
