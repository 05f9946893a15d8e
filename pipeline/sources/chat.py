"""ShareGPT and UltraChat dialogues -> Record.

Formats: https://github.com/lm-sys/FastChat, https://github.com/thunlp/UltraChat
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from catalog.errors import DataError
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
from pipeline.sources.llava import messages_of, record_id, without_lead


def _sharegpt_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    files = tuple(
        file
        for file in sorted([*root.glob("*.json"), *root.glob("*.jsonl")])
        if is_conversation_file(file, ("conversations", "items"))
    )
    return {"train": files} if files else {}


def _read_sharegpt(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a dialogue; leading assistant turns stay, the record says so."""
    yield from _read("sharegpt", root, split, files, _sharegpt_record)


def _sharegpt_record(split: str, file: str, key: str, row: dict[str, Any]) -> Record:
    turns, messages = messages_of(row)
    spoken = without_lead(messages)
    extra = rest(row, turns)
    if len(spoken) < len(messages) or any(set(turn) - {"from", "value"} for turn in row[turns]):
        extra[turns] = row[turns]
    return _record("sharegpt", split, file, key, spoken, extra, "unclear: shared by users")


def _ultrachat_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    plain = tuple(
        file
        for file in sorted([*root.glob("*.jsonl"), *root.glob("*.json")])
        if is_conversation_file(file, ("data",))
    )
    if plain:
        found["train"] = plain
    # ultrachat_200k: train_sft-00000-of-00003-….parquet, at the root or in data/.
    for file in sorted([*root.glob("*.parquet"), *root.glob("data/*.parquet")]):
        split = file.name.split("-")[0].removesuffix(".parquet")
        found[split] = (*found.get(split, ()), file)
    return found


def _read_ultrachat(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a dialogue; a last question without an answer stays, and carries no loss."""
    yield from _read("ultrachat", root, split, files, _ultrachat_record)


def _ultrachat_record(split: str, file: str, key: str, row: dict[str, Any]) -> Record:
    if "messages" in row:
        _, messages = messages_of(row)
        return _record("ultrachat", split, file, key, messages, rest(row, "messages"), "MIT")
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
    return _record("ultrachat", split, file, key, messages, extra, "MIT")


def _read(source: str, root: Path, split: str, files: Iterable[Path], make: Any) -> Iterator[Item]:
    seen: set[str] = set()
    for file in files:
        name = relative(file, root)
        for position, row in enumerate(_rows(file)):
            key = f"#{position}"
            try:
                if isinstance(row, Bad):
                    raise row
                if not isinstance(row, dict):
                    raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
                known = row | {"id": row.get("id", row.get("prompt_id"))}
                key = record_id(known, position, seen)
                yield make(split, name, key, row)
            except Bad as bad:
                yield refusal(source, split, name, key, bad)


def _rows(file: Path) -> Iterable[Any]:
    if file.suffix != ".parquet":
        return read_rows(file)
    try:
        rows: list[Any] = pq.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(str(error), file=file, fix="download the file again") from error
    return rows


def _record(
    source: str,
    split: str,
    file: str,
    key: str,
    messages: list[Message],
    extra: dict[str, Any],
    license: str,
) -> Record:
    return Record(
        source=source,
        split=split,
        native_id=key,
        task="text",
        messages=tuple(messages),
        license=license,
        extra=extra,
        file=file,
    )


SHAREGPT = Source(
    name="sharegpt",
    title="ShareGPT / Vicuna",
    family="text",
    files=("*.json with `conversations`",),
    splits=_sharegpt_splits,
    reader=_read_sharegpt,
    license="unclear: shared by users",
    homepage="https://github.com/lm-sys/FastChat",
)
ULTRACHAT = Source(
    name="ultrachat",
    title="UltraChat",
    family="text",
    files=("train_*.jsonl", "or data/{train,test}_{sft,gen}-*.parquet"),
    splits=_ultrachat_splits,
    reader=_read_ultrachat,
    license="MIT",
    homepage="https://github.com/thunlp/UltraChat",
)
