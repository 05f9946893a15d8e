"""Alpaca instructions and relatives -> Record.

Format: https://github.com/tatsu-lab/stanford_alpaca
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Message, Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    is_conversation_file,
    need,
    read_rows,
    refusal,
    relative,
    rest,
)
from pipeline.sources.llava import record_id


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split, `train`, with all its files."""
    files = tuple(
        file
        for file in sorted([*root.glob("*.json"), *root.glob("*.jsonl")])
        if is_conversation_file(file, ("instruction",))
    )
    return {"train": files} if files else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an instruction, in file order."""
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        for position, row in enumerate(read_rows(file)):
            key = f"#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                if not isinstance(row, dict):
                    raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
                key = record_id(row, position, seen)
                yield _record(split, name, key, row)
            except Bad as bad:
                yield refusal("alpaca", split, name, key, bad)


def _record(split: str, file: str, key: str, row: dict[str, Any]) -> Record:
    instruction = need(row, "instruction", str)
    given = need({"input": row.get("input") or ""}, "input", str)
    # GPTeacher calls the answer `response`.
    answer = "output" if "output" in row else "response"
    output = need(row, answer, str)
    messages = []
    if row.get("system"):
        messages.append(Message(role="system", content=need(row, "system", str)))
    for turn in row.get("history") or ():
        if (
            not isinstance(turn, list)
            or len(turn) != 2
            or not all(isinstance(t, str) for t in turn)
        ):
            raise Bad("wrong_type", f"a turn of 'history' is {turn!r:.80}, expected two texts")
        messages.append(Message(role="user", content=turn[0]))
        messages.append(Message(role="assistant", content=turn[1]))
    messages.append(
        Message(role="user", content=f"{instruction}\n{given}" if given else instruction)
    )
    messages.append(Message(role="assistant", content=output))
    # Where the input is joined to the instruction, `extra` keeps the two apart.
    taken = (
        ("output", "response", "system", "history")
        if given
        else ("instruction", "input", "output", "response", "system", "history")
    )
    return Record(
        source="alpaca",
        split=split,
        native_id=key,
        task="text",
        messages=tuple(messages),
        license="CC BY-NC 4.0",
        extra=rest(row, *taken),
        file=file,
    )


ALPACA = Source(
    name="alpaca",
    title="Alpaca",
    family="text",
    files=("alpaca_data.json",),
    splits=splits,
    reader=read,
    license="CC BY-NC 4.0",
    homepage="https://github.com/tatsu-lab/stanford_alpaca",
    official={"train": 52_002},
)
