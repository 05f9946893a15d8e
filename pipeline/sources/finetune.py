"""Fine-tuning files of MiniCPM-V, InternLM-XComposer, xtuner and lmms-engine -> Record.

Formats: https://github.com/OpenBMB/MiniCPM-V/blob/main/finetune/readme.md,
https://github.com/InternLM/InternLM-XComposer/tree/main/finetune,
https://github.com/InternLM/xtuner, https://github.com/EvolvingLMMs-Lab/lmms-engine

They differ in words alone, which `dialog` reads: `role` and `content`, a mark of its own for each
picture (`<image_00>`), `<ImageHere>`, `<IMG_CONTEXT>`, turns as lists of parts. A preference pair
of lmms-engine is its prompt with the chosen answer; the rejected one stays in `extra`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.sources.base import Source, need, read_rows, rest
from pipeline.sources.dialog import TURNS, Dialog, dialog_of, local
from pipeline.sources.each import reader, split_a_file

LICENSE = "unstated: your own"


def _say(root: Path, row: dict[str, Any]) -> Dialog:
    return dialog_of(row, at=local(root), monologue=True)


def _say_lmms_engine(root: Path, row: dict[str, Any]) -> Dialog:
    if "chosen" not in row or any(key in row for key in TURNS):
        return _say(root, row)
    turns = [*need(row, "prompt", list), *need(row, "chosen", list)]
    return _say(root, {"messages": turns} | rest(row, "prompt", "chosen"))


def _xtuner_rows(root: Path, file: Path) -> Iterator[Any]:
    """Yield the rows; a line may be the bare list of its messages."""
    for row in read_rows(file):
        yield {"messages": row} if isinstance(row, list) else row


def _source(name: str, title: str, homepage: str, **reading: Any) -> Source:
    return Source(
        name=name,
        title=title,
        family="instruction",
        files=("*.json or *.jsonl with its turns", "pictures at the paths they name"),
        splits=split_a_file("*.json", "*.jsonl", keys=(*TURNS, "chosen", "role")),
        reader=reader(name, LICENSE, **{"say": _say} | reading),
        license=LICENSE,
        homepage=homepage,
        note="Videos and sound are refused",
    )


MINICPM_V = _source(
    "minicpm_v",
    "MiniCPM-V fine-tuning",
    "https://github.com/OpenBMB/MiniCPM-V/blob/main/finetune/readme.md",
)
XCOMPOSER = _source(
    "xcomposer",
    "InternLM-XComposer fine-tuning",
    "https://github.com/InternLM/InternLM-XComposer",
)
XTUNER = _source(
    "xtuner",
    "xtuner fine-tuning",
    "https://github.com/InternLM/xtuner",
    rows=_xtuner_rows,
)
LMMS_ENGINE = _source(
    "lmms_engine",
    "lmms-engine",
    "https://github.com/EvolvingLMMs-Lab/lmms-engine",
    say=_say_lmms_engine,
)
