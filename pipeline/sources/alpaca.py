"""Alpaca instructions and relatives (GPTeacher, Alpaca-CoT, BELLE) -> Record.

Formats: https://github.com/tatsu-lab/stanford_alpaca, https://github.com/teknium1/GPTeacher,
https://github.com/LianjiaTech/BELLE

BELLE's files are JSON Lines named .json. Its multi-turn file writes the history into `instruction`,
its 3.5M file holds conversations; that form, and full-width colons after the speakers, are unverified.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from catalog.record import Message
from pipeline.sources.base import Bad, Source, need, read_rows, rest
from pipeline.sources.dialog import Dialog, dialog_of
from pipeline.sources.each import matching, one_split, reader
from pipeline.sources.files import csv_rows

SEEDS = "seed_tasks.jsonl"
ANSWERS = ("output", "response", "target")
"""GPTeacher's word is `response`, that of BELLE's first 0.5M `target`."""
SPEAKER = re.compile(r"^(Human|Assistant)[:：][ \t]*", re.MULTILINE)
"""Stands at the start of a line in BELLE's histories."""


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Read an instruction, with its input and, in frameworks' files, system text and history."""
    asked, given = need(row, "instruction", str), _input(row)
    question = f"{asked}\n{given}" if given else asked
    messages = [*before(row), Message(role="user", content=question), answer_of(row)]
    # Where the input is joined to the instruction, `extra` keeps the two apart.
    joined = () if given else ("instruction", "input")
    return Dialog(
        messages=tuple(messages),
        images=(),
        extra=rest(row, answer_key(row), "system", "history", *joined),
    )


def _input(row: dict[str, Any]) -> str:
    return "" if row.get("input") is None else str(need(row, "input", str))


def before(row: dict[str, Any]) -> list[Message]:
    """Return what stands before the question: `system`, then the pairs of `history`."""
    messages = []
    if row.get("system"):
        messages.append(Message(role="system", content=need(row, "system", str)))
    history = row.get("history")
    for turn in [] if history is None else need(row, "history", list):
        pair = isinstance(turn, list) and len(turn) == 2
        if not pair or not all(isinstance(text, str) for text in turn):
            raise Bad("wrong_type", f"a turn of 'history' is {turn!r:.80}, expected two texts")
        messages.append(Message(role="user", content=turn[0]))
        messages.append(Message(role="assistant", content=turn[1]))
    return messages


def answer_key(row: dict[str, Any]) -> str:
    """Return the name under which the row holds its answer."""
    return next((key for key in ANSWERS if key in row), ANSWERS[0])


def answer_of(row: dict[str, Any]) -> Message:
    """Return the answer under any of its names."""
    return Message(role="assistant", content=need(row, answer_key(row), str))


def _splits(root: Path) -> dict[str, tuple[Path, ...]]:
    found = matching(root, ("*.json", "*.jsonl"), ("instruction",))
    tables = matching(root, ("*alpaca*.csv",))
    files = tuple(file for file in [*found, *tables] if file.name != SEEDS)
    seeds = {"seed_tasks": (root / SEEDS,)} if (root / SEEDS).is_file() else {}
    return ({"train": files} if files else {}) | seeds


def _rows(root: Path, file: Path) -> Iterable[Any]:
    if file.suffix == ".csv":
        return csv_rows(file)
    return _instances(file) if file.name == SEEDS else read_rows(file)


def _instances(file: Path) -> Iterator[Any]:
    """Yield a row an instance: a seed task has one instruction and one or more of them."""
    for row in read_rows(file):
        instances = row.get("instances") if isinstance(row, dict) else None
        if not isinstance(instances, list):
            yield row
            continue
        for number, instance in enumerate(instances):
            if isinstance(instance, dict):
                yield rest(row, "instances") | {"id": f"{row.get('id')}.{number}"} | instance
            else:
                yield Bad("wrong_type", f"instance {number} is {instance!r:.80}, not an object")


def _say_belle(root: Path, row: dict[str, Any]) -> Dialog:
    if "conversations" in row:
        return dialog_of(row)
    asked = need(row, "instruction", str)
    marks = list(SPEAKER.finditer(asked))
    # A history begins with a speaker and ends with the assistant's, whose words are the output.
    if (
        len(marks) < 2
        or marks[-1][1] != "Assistant"
        or asked[: marks[0].start()].strip()
        or asked[marks[-1].end() :].strip()
    ):
        return say(root, row)
    ends = [mark.start() for mark in marks[1:]]
    messages = [
        Message(
            role="user" if mark[1] == "Human" else "assistant",
            content=asked[mark.end() : end].strip(),
        )
        for mark, end in zip(marks, ends, strict=False)
    ]
    return Dialog(
        messages=(*messages, answer_of(row)),
        images=(),
        extra=rest(row, answer_key(row)),
    )


ALPACA = Source(
    name="alpaca",
    title="Alpaca",
    family="text",
    files=("alpaca_data.json", "or *.json, *.jsonl, *alpaca*.csv with `instruction`", SEEDS),
    splits=_splits,
    reader=reader("alpaca", "CC BY-NC 4.0", say, _rows),
    license="CC BY-NC 4.0",
    homepage="https://github.com/tatsu-lab/stanford_alpaca",
    official={"train": 52_002, "seed_tasks": 175},
    version=2,
)
BELLE = Source(
    name="belle",
    title="BELLE",
    family="text",
    files=("*.json (JSON Lines) with `instruction` or `conversations`",),
    splits=one_split("*.json", "*.jsonl", keys=("instruction", "conversations")),
    reader=reader("belle", "research only", _say_belle),
    license="research only",
    homepage="https://github.com/LianjiaTech/BELLE",
    note="The 3.5M file and full-width colons are unverified",
)
