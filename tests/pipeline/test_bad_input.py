"""Whatever is wrong with a release, every reader yields records and refusals, or stops with a message.

The tests run over all sources: a new one is covered when it is listed. None may crash, hang, or lose a
record without a word.
"""

import gzip
import json
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import Catalog
from catalog.errors import DataError, UserError
from catalog.record import Record, Refusal
from pipeline.ingest import build, cut
from pipeline.jobs import Job
from pipeline.sources import SOURCES, Source

DATA = Path(__file__).parent.parent / "data"
TEXT = {".json", ".jsonl", ".txt", ".csv", ".tsv", ".xml", ".md", ".token"}
PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
SECONDS = 30
"""No reading of a tiny fixture takes that long unless it hangs."""
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@pytest.fixture
def root(source: Source, tmp_path: Path) -> Iterator[Path]:
    """A copy of a source's fixture, and an alarm."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{source.name} hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield Path(shutil.copytree(DATA / source.name, tmp_path / "release"))
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(source: Source, root: Path) -> tuple[int, frozenset[Refusal]] | str:
    """Return how many records a folder gives and its refusals, or the message that it stops with.

    Anything else that a reader does is an error here.
    """
    records, refusals = 0, set[Refusal]()
    try:
        for split in source.found(root):
            for item in source.read(root, split):
                assert isinstance(item, Record | Refusal)
                if isinstance(item, Record):
                    records += 1
                else:
                    refusals.add(item)
                    assert item.reason
                    assert item.message
    except (DataError, UserError) as error:
        return str(error)
    return records, frozenset(refusals)


def annotations(source: Source, root: Path) -> list[Path]:
    """Return the files that the splits are read from, those of folders too."""
    files = {file for files in source.found(root).values() for file in files}
    inside = {file for folder in files if folder.is_dir() for file in folder.rglob("*")}
    return sorted(file for file in files | inside if file.is_file() and file.suffix != ".jpg")


def annotations_or_none(source: Source, root: Path) -> list[Path]:
    """Return the files that the splits are read from; none where the folder is no release any more."""
    try:
        return annotations(source, root)
    except (DataError, UserError):
        return []


@contextmanager
def changed(file: Path, data: bytes) -> Iterator[None]:
    """Let a file hold other bytes for a while."""
    before = file.read_bytes()
    file.write_bytes(data)
    try:
        yield
    finally:
        file.write_bytes(before)


@every_source
def test_a_missing_file_is_told(source: Source, root: Path) -> None:
    for file in annotations(source, root):
        away = file.rename(file.with_name("away"))
        outcome(source, root)
        away.rename(file)


@every_source
def test_a_file_that_is_cut_off_or_empty_is_told(source: Source, root: Path) -> None:
    for file in annotations(source, root):
        whole = file.read_bytes()
        for part in (0, 0.3, 0.6, 0.95):
            with changed(file, whole[: int(len(whole) * part)]):
                outcome(source, root)


@every_source
def test_wrong_encodings_are_told(source: Source, root: Path) -> None:
    for file in annotations(source, root):
        if file.suffix in TEXT:
            text = file.read_bytes().decode(errors="replace")
            for data in (text.encode("utf-16"), b"\xff" + text.encode(), text.encode() + b"\xc3"):
                with changed(file, data):
                    outcome(source, root)


@every_source
def test_a_split_without_records_is_no_crash(source: Source, root: Path) -> None:
    for file in annotations(source, root):
        if file.suffix == ".json":
            content = (
                json.loads(file.read_bytes().decode("utf-8-sig").split("\n\x00")[0] or "null")
                if (is_json(file))
                else []
            )
            emptied = (
                {k: type(v)() if isinstance(v, list | dict) else v for k, v in content.items()}
                if (isinstance(content, dict))
                else []
            )
            with changed(file, json.dumps(emptied).encode()):
                outcome(source, root)
        elif file.suffix in TEXT:
            first = file.read_bytes().split(b"\n")[0]
            with changed(file, first + b"\n"):
                outcome(source, root)


def is_json(file: Path) -> bool:
    """Tell whether a file is one JSON document."""
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


@every_source
def test_missing_pictures_are_refused_one_by_one(source: Source, root: Path) -> None:
    for file in root.rglob("*"):
        if file.suffix.lower() in PICTURES:
            file.unlink()
    try:
        Catalog.create(root.parent / "catalog")
        chunks = list(cut(Job(source=source.name, root=root), root.parent / "catalog"))
        built = [build(chunk, root.parent / "catalog") for chunk in chunks]
    except (DataError, UserError):
        return
    assert sum(chunk.count for chunk in chunks) == sum(p.records + p.refused for p in built)


flips = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4)
few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@every_source
@few
@given(place=st.integers(0, 50), changes=flips, end=st.floats(0.1, 1))
def test_damaged_bytes_crash_no_reader(
    source: Source, root: Path, place: int, changes: list[tuple[float, int]], end: float
) -> None:
    files = annotations(source, root)
    file = files[place % len(files)]
    data = bytearray(file.read_bytes())
    for where, value in changes:
        if data:
            data[int(where * len(data))] = value
    with changed(file, bytes(data[: max(int(end * len(data)), 1)])):
        outcome(source, root)


WRONG: list[Any] = [
    None,
    17,
    -1,
    1e300,
    "x",
    "",
    True,
    [],
    {},
    [None],
    {"a": 1},
    [[]],
    "../../etc/passwd",
]


def lines_of(file: Path) -> list[Any]:
    """Return the JSON values of a file: one, or one a line."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    text = data.decode("utf-8-sig")
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_of(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at a path."""
    for key in path:
        value = value[key]
    return value


@every_source
def test_wrong_values_are_refused_and_no_record_is_lost_in_silence(
    source: Source, root: Path
) -> None:
    whole = outcome(source, root)
    dice = random.Random(source.name)
    for file in annotations(source, root):
        try:
            values = lines_of(file)
        except (ValueError, OSError):
            continue
        text = json.dumps(values)
        # A file that is one value, all of it replaced, is another file.
        paths = [path for path in paths_of(values) if len(path) > (len(values) == 1)]
        for path in dice.sample(paths, min(12, len(paths))):
            for change in ("replace", "delete", "double"):
                other = json.loads(text)
                owner, key = at(other, path[:-1]), path[-1]
                if change == "replace":
                    owner[key] = dice.choice(WRONG)
                elif change == "delete":
                    del owner[key]
                elif isinstance(owner, list):
                    owner.append(owner[key])
                else:
                    continue
                data = "\n".join(json.dumps(line) for line in other).encode()
                with changed(file, gzip.compress(data) if file.suffix == ".gz" else data):
                    found = outcome(source, root)
                    known = file in annotations_or_none(source, root)
                # Some releases are told by their content: a file that no longer looks like one is none.
                if not known:
                    continue
                leaf = not isinstance(at(values, path), dict | list)
                if (
                    leaf
                    and change == "replace"
                    and isinstance(found, tuple)
                    and isinstance(whole, tuple)
                ):
                    told = found[0] >= whole[0] or found[1] - whole[1]
                    assert told, (
                        f"{file.name} {path} = {owner[key]!r}: {whole[0]} became {found[0]}"
                    )
