"""ShareGPT and UltraChat dialogues -> Record.

Formats: https://github.com/lm-sys/FastChat, https://github.com/thunlp/UltraChat,
https://huggingface.co/datasets/HuggingFaceH4/ultrachat_200k
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from catalog.record import Message
from pipeline.sources.base import Bad, Source, need, read_rows, rest
from pipeline.sources.dialog import Dialog, dialog_of
from pipeline.sources.each import matching, one_split, reader
from pipeline.sources.parquet import parquet_rows


def _say(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a dialogue; a last question without an answer stays, and carries no loss."""
    return dialog_of(row)


def _ultrachat_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    if plain := matching(root, ("*.jsonl", "*.json"), ("data",)):
        found["train"] = tuple(plain)
    # ultrachat_200k: train_sft-00000-of-00003-….parquet, at the root or in data/.
    for file in matching(root, ("*.parquet", "data/*.parquet")):
        split = file.name.split("-")[0].removesuffix(".parquet")
        found[split] = (*found.get(split, ()), file)
    return found


def _ultrachat_rows(root: Path, file: Path) -> Iterable[Any]:
    return parquet_rows(root, file) if file.suffix == ".parquet" else read_rows(file)


def _say_ultrachat(root: Path, row: dict[str, Any]) -> Dialog:
    if "messages" in row:
        return dialog_of(row)
    turns = need(row, "data", list)
    if not turns:
        raise Bad("empty_conversation", "there is no turn")
    messages = []
    for position, text in enumerate(turns):
        if not isinstance(text, str):
            raise Bad("wrong_type", f"turn {position} is {text!r:.80}, expected str")
        messages.append(Message(role="assistant" if position % 2 else "user", content=text))
    extra = rest(row, "data")
    if len(messages) % 2:
        # The release ends some dialogues with a question that nobody answered.
        extra["dangling_user_turn"] = messages.pop().content
    return Dialog(messages=tuple(messages), images=(), extra=extra)


SHAREGPT = Source(
    name="sharegpt",
    title="ShareGPT / Vicuna",
    family="text",
    files=("*.json with `conversations`",),
    splits=one_split("*.json", "*.jsonl", keys=("conversations", "items")),
    reader=reader("sharegpt", "unclear: shared by users", _say),
    license="unclear: shared by users",
    homepage="https://github.com/lm-sys/FastChat",
    version=2,
)
ULTRACHAT = Source(
    name="ultrachat",
    title="UltraChat",
    family="text",
    files=("train_*.jsonl", "or data/{train,test}_{sft,gen}-*.parquet"),
    splits=_ultrachat_splits,
    reader=reader("ultrachat", "MIT", _say_ultrachat, _ultrachat_rows),
    license="MIT",
    homepage="https://github.com/thunlp/UltraChat",
    version=2,
)
