"""SMART-101: puzzles for children, two thousand instances of each root puzzle in a CSV -> Record.

Format: https://github.com/merlresearch/SMART. Blank options are drawn in the picture, where only the letter
can be asked. Splits are made by the authors' loader, the release has one.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Bad, Item, Source, first_folder, need, relative, rest
from pipeline.sources.files import csv_rows
from pipeline.sources.origin import Origin, numbered

OPTIONS = ("A", "B", "C", "D", "E")
INFO = "SMART_info_v2.csv"
"""Root puzzles, one a row."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split -> (table of root puzzles, CSV of each puzzle)."""
    folder = root / first_folder(root, ("SMART101-release-v1",), ".")
    puzzles = sorted((folder / "SMART101-Data").glob("*/*.csv"), key=_number)
    info = tuple(file for file in (folder / INFO, root / INFO) if file.exists())[:1]
    return {"all": (*info, *puzzles)} if puzzles else {}


def _number(file: Path) -> tuple[int, str]:
    pid = file.parent.name
    return int(pid) if pid.isdecimal() else 0, pid


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an instance, puzzle by puzzle, in file order."""
    puzzles: dict[str, Any] = {}
    for file in files:
        origin = Origin(
            source="smart101", split=split, file=relative(file, root), license=SMART101.license
        )
        rows = numbered(csv_rows(file), "id")
        if file.name == INFO:
            puzzles = {str(key): row for key, row in rows}
        else:
            # The folder is the puzzle: in the release, folder 62 holds `puzzle_63.csv`.
            folder = relative(file.parent, root)
            make = partial(_record, folder, puzzles.get(file.parent.name))
            yield from origin.items(rows, make)


def _record(folder: str, puzzle: Any, origin: Origin, key: str, row: Mapping[str, Any]) -> Record:
    options = [need(row, name, str).strip() for name in OPTIONS]
    right = need(row, "Answer", str).strip()
    if right not in OPTIONS:
        raise Bad("bad_index", f"'Answer' is {right!r:.80}, expected one of {', '.join(OPTIONS)}")
    drawn = not any(options)
    extra = rest(row, "Question", "Answer", *OPTIONS)
    return origin.question(
        f"{Path(folder).name}/{key}",
        need(row, "Question", str),
        images=[f"{folder}/img/{need(row, 'image', str)}"],
        target=right if drawn else None,
        choices=OPTIONS if drawn else options,
        shown=() if drawn else options,
        answer_index=OPTIONS.index(right),
        extra=extra | ({"puzzle": puzzle} if isinstance(puzzle, dict) else {}),
    )


SMART101 = Source(
    name="smart101",
    title="SMART-101",
    family="reasoning",
    files=(
        "SMART101-release-v1/SMART101-Data/*/puzzle_*.csv",
        f"SMART101-release-v1/{INFO}",
        "SMART101-release-v1/SMART101-Data/*/img/*.png",
    ),
    splits=splits,
    reader=read,
    license="CC BY-SA 4.0",
    homepage="https://smartdataset.github.io/smart101",
    official={"all": 202_000},
    note="The release has one split; its licence is unverified",
)
