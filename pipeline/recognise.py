"""Which official format a folder holds: every reader is asked, the likely ones read a few records."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from catalog.errors import CuveeError, UserError
from catalog.record import Record
from pipeline.sources import SOURCES, Source
from pipeline.sources.base import listing

RECORDS = 20
"""Items read from each of the first splits."""
SPLITS = 3
CANDIDATES = 16
"""So many sources, the likeliest by their files, are read."""
SECONDS = 8.0
"""After this time no further candidate is read."""
ENTRIES = 20_000
"""Files looked at to tell how much of a folder a source explains."""
UNSURE = 0.3
"""Below this the folders inside are looked at too: a release may lie one or two folders deeper."""
FOLDERS = 24
"""Most folders inside that are looked at."""
ALIKE = 0.8
"""Sources that explain a folder inside nearly as well as the best, by share of its sureness."""
GENERAL = ("hf", "webdataset", "json_rows", "documents", "pdf")
"""Sources that take almost any folder: they come behind one that knows it."""
_WORD = re.compile(r"(?:\{[^{}]*\}|[^\s,{}])+")
"""A pattern of files: blanks and commas end it, except between braces."""
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """How well a source explains a folder."""

    source: str
    sure: float
    """0 to 1."""
    splits: tuple[str, ...]
    named: float
    """How much of the official file names the files have, 0 to 1."""
    covered: float
    """Share of the folder's files, pictures apart, that the splits are read from."""
    read: int = 0
    refused: int = 0
    understood: float = 0.0
    """Share of the records' text that has a typed place rather than one in `extra`."""
    problem: str = ""
    folder: str = ""
    """Folder inside that is meant, "" for the folder itself."""

    @property
    def why(self) -> str:
        """The reasons, in words."""
        parts = [f"names match {self.named:.0%}", f"{self.covered:.0%} of the files"]
        if self.read or self.refused:
            parts.append(f"{self.read} of {self.read + self.refused} records read")
            parts.append(f"{self.understood:.0%} of their text understood")
        if self.problem:
            parts.append(self.problem)
        return ", ".join(parts)


def recognise(root: Path, sources: Sequence[Source] = SOURCES) -> list[Guess]:
    """Return what the folder may be, the surest first; an empty list where nothing fits."""
    end = time.monotonic() + SECONDS
    found = _recognise(root, sources, end)
    best = max((guess.sure for guess in found if guess.source not in GENERAL), default=0.0)
    if best < UNSURE:
        known: list[Path] = []
        for folder in islice(_folders(root), FOLDERS):
            if time.monotonic() > end:
                break
            if any(above in folder.parents for above in known):
                continue
            inside = _recognise(folder, sources, end)
            inside = [g for g in inside if g.source not in GENERAL and g.sure > best]
            if inside and inside[0].sure >= UNSURE:
                known.append(folder)
            found += [
                replace(guess, folder=folder.relative_to(root).as_posix())
                for guess in inside
                if guess.sure >= ALIKE * inside[0].sure
            ]
    return sorted(found, key=lambda guess: -guess.sure)


def _recognise(root: Path, sources: Sequence[Source], end: float) -> list[Guess]:
    files = list(islice(_files(root), ENTRIES))
    if not files:
        return []
    guesses = [guess for source in sources if (guess := _by_files(source, root, files))]
    guesses.sort(key=lambda guess: -guess.sure)
    by_name = {source.name: source for source in sources}
    read = []
    for place, guess in enumerate(guesses):
        if place >= CANDIDATES or time.monotonic() > end:
            read.append(replace(guess, sure=guess.sure / 4, problem=guess.problem or "not read"))
        else:
            read.append(_by_records(by_name[guess.source], root, guess))
    return sorted(read, key=lambda guess: -guess.sure)


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders inside, then those inside them; none behind a link."""
    level = [root]
    for _ in range(2):
        level = [
            folder
            for above in level
            for folder in sorted(above.iterdir())
            if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith(".")
        ][:FOLDERS]
        yield from level


def _files(root: Path) -> Iterator[str]:
    """Yield the POSIX paths of the folder's files, pictures apart."""
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if not name.lower().endswith(_PICTURES) and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _by_files(source: Source, root: Path, files: Sequence[str]) -> Guess | None:
    try:
        splits = source.splits(root)
    except (CuveeError, OSError) as error:
        return Guess(
            source=source.name, sure=0.0, splits=(), named=0, covered=0, problem=_first_line(error)
        )
    if not splits:
        return None
    used = {
        os.path.relpath(file, root).replace(os.sep, "/")
        for part in splits.values()
        for file in part
    }
    named = max((_named(source, file) for file in used), default=0.0)
    covered = len(used & set(files)) / max(len(files), 1)
    # The folder's own name is a hint, never a proof.
    mine, folder = _plain(source.name), _plain(root.resolve().name)
    called = (1 + len(mine) / len(folder)) / 2 if mine in folder else 0.0
    sure = 0.5 * named + 0.3 * covered + 0.2 * called
    return Guess(
        source=source.name,
        sure=sure * (0.6 if source.name in GENERAL else 1.0),
        splits=tuple(splits),
        named=named,
        covered=covered,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _named(source: Source, file: str) -> float:
    """Return how much a file's name says: the literal letters of the official pattern that it fits."""
    best = 0
    words = [word for pattern in source.files for word in _WORD.findall(pattern)]
    for plain in (plain for word in words for plain in _braces(word.strip("`()"))):
        whole = re.sub(r"<[^>]*>", "*", plain)
        # A file may lie without the folders that the release puts it in.
        for shape in (whole, whole.rpartition("/")[2]):
            if shape and (fnmatchcase(file, shape) or fnmatchcase(file, f"*/{shape}")):
                literal = re.sub(r"[*?\[\]./]|jsonl?$|parquet$|tar$|txt$|tsv$|csv$", "", shape)
                best = max(best, len(literal))
    return best / (best + 6)


def _braces(pattern: str) -> list[str]:
    """
    >>> _braces("{a,b}_{1,2}.json")
    ['a_1.json', 'a_2.json', 'b_1.json', 'b_2.json']
    """
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [rest for part in found[1].split(",") for rest in _braces(f"{head}{part.strip()}{tail}")]


def _by_records(source: Source, root: Path, guess: Guess) -> Guess:
    if not guess.splits:
        return guess
    records, refused, outside, problem = [], 0, 0, ""
    for split in guess.splits[:SPLITS]:
        try:
            for item in islice(source.read(root, split), RECORDS):
                if isinstance(item, Record):
                    records.append(item)
                else:
                    refused += 1
                    outside += item.reason == "unsafe_path"
        except (CuveeError, OSError) as error:
            problem = _first_line(error)
        except Exception as error:  # a reader's own mistake must not hide what the others found
            problem = f"the reader failed: {error!r:.120}"
    total = len(records) + refused
    if outside and outside == total:
        # All that is wrong with these records is where their pictures lie.
        sure, problem = guess.sure * 0.3, "the pictures lie outside the folder"
        return replace(guess, sure=sure, refused=refused, problem=problem)
    rate = len(records) / total if total else 0.0
    understood = sum(_understood(record) for record in records) / len(records) if records else 0.0
    general = source.name in GENERAL
    sure = guess.sure * 0.6 + 0.4 * understood * (0.5 if general else 1.0)
    if general:
        rate *= rate  # what takes almost anything, and refuses much of this, is not its format
    return replace(
        guess,
        sure=min(sure * rate * (0.5 if problem else 1.0), 0.99),
        read=len(records),
        refused=refused,
        understood=understood,
        problem=problem,
    )


def _understood(record: Record) -> float:
    typed = sum(len(message.content) for message in record.messages)
    typed += sum(len(str(region.box)) + len(region.label) for region in record.regions)
    typed += sum(len(text) for text in (*record.choices, *(record.answers or ())))
    typed += sum(len(ref.path) for ref in record.images)
    left = len(orjson.dumps(dict(record.extra), default=str, option=orjson.OPT_NON_STR_KEYS))
    return typed / (typed + left) if typed else 0.0


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


def guess_table(root: Path, guesses: Sequence[Guess], limit: int = 8) -> Table:
    """Return the table of `cuvee peek PATH`."""
    table = Table(title=f"What {root} may hold", title_justify="left")
    for column in ("source", "sure", "splits", "why"):
        table.add_column(column, justify="right" if column == "sure" else "left", overflow="fold")
    for guess in guesses[:limit]:
        splits = ", ".join(guess.splits[:6]) + (", …" if len(guess.splits) > 6 else "")
        name = f"{guess.source} in {guess.folder}/" if guess.folder else guess.source
        table.add_row(name, f"{guess.sure:.0%}", splits, guess.why)
    return table


def show_guesses(console: Console, root: Path, *, as_json: bool = False) -> None:
    """Print what a folder may hold, and the command that looks closer.

    Raises:
        UserError: it is no folder, or nothing in it is known.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder", fix="cuvee peek [NAME] ROOT")
    guesses = recognise(root)
    if not any(guess.splits for guess in guesses):
        raise UserError(
            f"{root} holds no files of a known source",
            fix=f"`cuvee sources` lists what each should hold; it holds {listing(root)}",
        )
    if as_json:
        for guess in guesses:
            console.print_json(data=asdict(guess), indent=None)
        return
    console.print(guess_table(root, guesses))
    best = guesses[0]
    console.print(f"Look closer: cuvee peek {best.source} {root / best.folder}", highlight=False)
