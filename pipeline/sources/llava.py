"""LLaVA conversation files, with the deviations of the family -> Record.

Format: https://github.com/haotian-liu/LLaVA/blob/main/docs/Data.md
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record, Role
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    is_conversation_file,
    read_rows,
    refusal,
    relative,
    rest,
    safe,
)

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
TURNS = ("conversations", "conversation", "messages", "items")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each conversation file as a split of its own, named by its stem."""
    files = sorted([*root.glob("*.json"), *root.glob("*.jsonl")])
    return {file.stem: (file,) for file in files if is_conversation_file(file, TURNS)}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an entry, in file order."""
    name = relative(files[0], root)
    seen: set[str] = set()
    for position, row in enumerate(read_rows(files[0])):
        key: object = f"#{position}"
        try:
            if isinstance(row, Bad):
                raise row
            if not isinstance(row, dict):
                raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
            key = record_id(row, position, seen)
            yield _record(split, name, str(key), row)
        except Bad as bad:
            yield refusal("llava", split, name, key, bad)


def record_id(row: dict[str, Any], position: int, seen: set[str]) -> str:
    """Return the record's id; where it is missing or was used before, its place tells it apart."""
    given = row.get("id", row.get("idx"))
    key = str(given) if isinstance(given, int | str) and given != "" else f"#{position}"
    if key in seen:
        key = f"{key}#{position}"
    seen.add(key)
    return key


def messages_of(row: dict[str, Any]) -> tuple[str, list[Message]]:
    """Return the key that holds the turns, and the turns.

    Raises:
        Bad: no turns, or one of them cannot be read.
    """
    key = next((key for key in TURNS if isinstance(row.get(key), list)), None)
    if key is None:
        raise Bad("missing_field", f"none of {', '.join(TURNS)} is a list")
    if not row[key]:
        raise Bad("empty_conversation", "there is no turn")
    return key, [_message(turn) for turn in row[key]]


def without_lead(messages: list[Message]) -> list[Message]:
    """Return the turns from the first that is not the assistant's: it answers nothing before."""
    first = next((i for i, message in enumerate(messages) if message.role != "assistant"), None)
    if first is None:
        raise Bad("no_user_turn", "only the assistant speaks")
    return messages[first:]


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise Bad("wrong_type", f"a turn is {type(turn).__name__}, not an object")
    speaker = turn.get("from", turn.get("role"))
    text = turn.get("value", turn.get("content"))
    if not isinstance(speaker, str) or speaker.lower() not in ROLES:
        raise Bad("unknown_role", f"speaker {speaker!r}, expected one of {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise Bad("wrong_type", f"the text of a turn is {text!r:.80}, expected str")
    weight = turn.get("weight", turn.get("loss"))
    loss = bool(weight) if isinstance(weight, bool | int | float) else None
    return Message(role=ROLES[speaker.lower()], content=text, loss=loss)


def _images(row: dict[str, Any]) -> tuple[str | None, list[ImageRef]]:
    key = next((key for key in ("image", "images") if row.get(key)), None)
    if key is None:
        return None, []
    value = row[key]
    paths = value if isinstance(value, list) else [value]
    return key, [ImageRef(path=safe(path)) for path in paths]


def _placed(messages: list[Message], images: int) -> list[Message]:
    """Check the picture marks; a record without any gets them in front of its first user turn."""
    marks = sum(message.content.count(IMAGE) for message in messages)
    if not images or marks == images:
        return messages
    if marks:
        raise Bad("placeholder_mismatch", f"{marks} {IMAGE} marks for {images} pictures")
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise Bad("no_user_turn", "a picture, and no user turn to show it in")
    old = messages[first]
    new = Message(role="user", content=f"{IMAGE}\n" * images + old.content, loss=old.loss)
    return [*messages[:first], new, *messages[first + 1 :]]


def _record(split: str, file: str, key: str, row: dict[str, Any]) -> Record:
    turns, messages = messages_of(row)
    image_key, images = _images(row)
    extra = rest(row, *(k for k in (turns, image_key) if k))
    spoken = without_lead(messages)
    known = {"from", "value", "role", "content"}
    if len(spoken) < len(messages) or any(set(turn) - known for turn in row[turns]):
        extra[turns] = row[turns]
    license = row.get("license")
    return Record(
        source="llava",
        split=split,
        native_id=key,
        task="conversation" if images else "text",
        images=tuple(images),
        messages=tuple(_placed(spoken, len(images))),
        license=license if isinstance(license, str) else "CC BY-NC 4.0",
        extra=extra,
        file=file,
    )


LLAVA = Source(
    name="llava",
    title="LLaVA conversations",
    family="instruction",
    files=("*.json or *.jsonl with `conversations`", "pictures at the paths they name"),
    splits=splits,
    reader=read,
    license="CC BY-NC 4.0",
    homepage="https://github.com/haotian-liu/LLaVA",
    official={"llava_instruct_150k": 157_712, "blip_laion_cc_sbu_558k": 558_128},
)
