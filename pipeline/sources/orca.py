"""OpenOrca, SlimOrca and OpenHermes -> Record.

Formats: https://huggingface.co/datasets/Open-Orca/OpenOrca,
https://huggingface.co/datasets/Open-Orca/SlimOrca, https://huggingface.co/datasets/teknium/OpenHermes-2.5

The turns' weights in SlimOrca, and the form of OpenHermes 1 (that of Alpaca), are unverified.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog.record import Message
from pipeline.sources import alpaca
from pipeline.sources.base import Source, need, rest
from pipeline.sources.dialog import Dialog, dialog_of
from pipeline.sources.each import one_split, reader, split_a_file
from pipeline.sources.parquet import parquet_rows


def _say_openorca(root: Path, row: dict[str, Any]) -> Dialog:
    messages = [
        Message(role="user", content=need(row, "question", str)),
        Message(role="assistant", content=need(row, "response", str)),
    ]
    if row.get("system_prompt"):
        messages.insert(0, Message(role="system", content=need(row, "system_prompt", str)))
    extra = rest(row, "question", "response", "system_prompt")
    return Dialog(messages=tuple(messages), images=(), extra=extra)


def _say_slimorca(root: Path, row: dict[str, Any]) -> Dialog:
    return dialog_of(row)


def _say_openhermes(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a dialogue; its system text stands in a turn, in `system_prompt`, or in both."""
    if "conversations" not in row:
        return alpaca.say(root, row)
    said = dialog_of(row)
    system = row.get("system_prompt")
    if not system or said.messages[0].role == "system":
        return said
    first = Message(role="system", content=need(row, "system_prompt", str))
    return replace(said, messages=(first, *said.messages), extra=rest(said.extra, "system_prompt"))


OPENORCA = Source(
    name="openorca",
    title="OpenOrca",
    family="text",
    files=("1M-GPT4-Augmented.parquet", "3_5M-GPT3_5-Augmented.parquet"),
    splits=one_split("*-Augmented.parquet"),
    reader=reader("openorca", "MIT", _say_openorca, parquet_rows),
    license="MIT",
    homepage="https://huggingface.co/datasets/Open-Orca/OpenOrca",
    official={"train": 4_233_915},
)
SLIMORCA = Source(
    name="slimorca",
    title="SlimOrca",
    family="text",
    files=("oo-labeled_correct.gpt4.sharegpt.jsonl, or *.jsonl with `conversations`",),
    splits=one_split("*.jsonl", keys=("conversations",)),
    reader=reader("slimorca", "MIT", _say_slimorca),
    license="MIT",
    homepage="https://huggingface.co/datasets/Open-Orca/SlimOrca",
    note="The weights of turns are unverified",
)
OPENHERMES = Source(
    name="openhermes",
    title="OpenHermes 1 and 2.5",
    family="text",
    files=("openhermes2_5.json or openhermes.json",),
    splits=split_a_file("openhermes*.json"),
    reader=reader("openhermes", "unstated: sources differ", _say_openhermes),
    license="unstated: sources differ",
    homepage="https://huggingface.co/datasets/teknium/OpenHermes-2.5",
    note="The form of version 1 is unverified",
)
