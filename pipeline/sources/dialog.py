"""A dialogue in any of the field's spellings -> messages with marked pictures.

Turns: https://github.com/haotian-liu/LLaVA/blob/main/docs/Data.md, and the fine-tuning guides of
MiniCPM-V, InternLM-XComposer, xtuner, ms-swift, LLaMA-Factory and OpenAI's list of parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from catalog.record import IMAGE, ImageRef, Message, Region, Role
from pipeline.sources.base import Bad, need, rest, safe
from pipeline.sources.pictures import INLINE, MARKS, Place, named, pictures_of, place_of, placed

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
    "pretrain": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
PLAIN = {"human", "user", "gpt", "assistant", "bot", "system", "tool"}
"""Speakers that the role alone tells; other names stay in `extra`."""
TURNS = ("conversations", "conversation", "messages", "items")
MEDIA = frozenset(("video", "videos", "audio", "audios"))
WEIGHTS = ("weight", "loss", "loss_weight", "loss_scale")
At = Callable[[str], str]
"""A picture's path as the record gives it -> its place under the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """What a row says, and what else it holds."""

    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    extra: dict[str, Any]
    regions: tuple[Region, ...] = ()


class _Turn(NamedTuple):
    message: Message
    pictures: tuple[Place, ...]
    """Pictures given inside the turn."""
    plain: bool
    """Whether the message holds all that the turn says."""


def dialog_of(row: Mapping[str, Any], *, at: At = safe, monologue: bool = False) -> Dialog:
    """Return the dialogue of a row.

    Pictures stand under `image` or `images`, or inside the turns; `at` says where under the root.
    Leading assistant turns are left out, for they answer nothing (with `monologue`, not where
    nobody else speaks), and user turns in a row are joined by a line break. `extra` holds the
    turns as they were wherever the messages say less.

    Raises:
        Bad: no turns, a turn that cannot be read, or picture marks that do not fit the pictures.
    """
    _no_media(row)
    key, turns = turns_of(row)
    read = [_turn(turn) for turn in turns]
    messages = joined(without_lead([turn.message for turn in read], monologue=monologue))
    extra = rest(row, key)
    beside = next((name for name in ("image", "images") if row.get(name)), "")
    given = extra.pop(beside, None)
    paths = pictures_of(given) or [path for turn in read for path in turn.pictures]
    if isinstance(given, dict) and "path" not in given:
        messages, paths = named(messages, given)
        extra[beside] = given
    images = [path if isinstance(path, ImageRef) else ImageRef(path=at(path)) for path in paths]
    for ref, path in zip(images, paths, strict=True):
        if path is not ref and not ref.path.endswith(str(path)):
            extra[beside or "image"] = given or paths
    messages, spelling = placed(messages, len(images))
    if spelling != IMAGE:
        extra["placeholder"] = spelling
    if len(messages) < len(read) or not all(turn.plain for turn in read):
        extra[key] = turns
    return Dialog(messages=tuple(messages), images=tuple(images), extra=extra)


def local(root: Path) -> At:
    """Return what takes paths below the root, written from the root or from the top of the disk.

    >>> local(Path("/data"))("/data/a.jpg"), local(Path("/data"))("b.jpg")
    ('a.jpg', 'b.jpg')
    """
    top = f"{root.resolve().as_posix()}/"
    return lambda path: safe(path.removeprefix("file://").removeprefix(top))


def turns_of(row: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return the key that holds the turns, and the turns as given.

    Raises:
        Bad: there are none.
    """
    for key in TURNS:
        if isinstance(turns := row.get(key), list):
            break
    else:
        raise Bad("missing_field", f"none of {', '.join(TURNS)} is a list")
    if not turns:
        raise Bad("empty_conversation", "there is no turn")
    return key, turns


def without_lead(messages: Sequence[Message], *, monologue: bool = False) -> list[Message]:
    """Return the turns from the first that is not the assistant's: it answers nothing before.

    Raises:
        Bad: `no_user_turn`, only the assistant speaks; with `monologue` that is text to learn.
    """
    for first, message in enumerate(messages):
        if message.role != "assistant":
            return list(messages[first:])
    if not monologue:
        raise Bad("no_user_turn", "only the assistant speaks")
    return list(messages)


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with user turns in a row made one, as chat templates want them.

    >>> [m.content for m in joined([Message(role="user", content=text) for text in ("Hi", "You?")])]
    ['Hi\\nYou?']
    """
    found: list[Message] = []
    for message in messages:
        if message.role == "user" and found and found[-1].role == "user":
            found[-1] = replace(message, content=f"{found[-1].content}\n{message.content}")
        else:
            found.append(message)
    return found


def _no_media(row: Mapping[str, Any]) -> None:
    if not MEDIA.isdisjoint(row) and (held := sorted(key for key in MEDIA if row.get(key))):
        raise Bad(
            "unsupported_media", f"the record holds {', '.join(held)}; only pictures are read"
        )


def _turn(turn: Any) -> _Turn:
    if not isinstance(turn, dict):
        raise Bad("wrong_type", f"a turn is {type(turn).__name__}, not an object")
    speaker = turn.get("from", turn.get("role"))
    role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        raise Bad("unknown_role", f"speaker {speaker!r:.80}, expected one of {', '.join(ROLES)}")
    given = turn.get("value", turn.get("content"))
    calls = turn.get("tool_calls")
    pictures: list[Place] = []
    if isinstance(given, list):
        text, pictures = _parts(given)
    elif isinstance(calls, list) and calls and not given:
        # OpenAI's way: an assistant that calls tools says nothing else.
        text = orjson.dumps(calls).decode()
    elif isinstance(given, str):
        text = given
    else:
        raise Bad("wrong_type", f"the text of a turn is {given!r:.80}, expected str")
    loss, said = _loss(turn) if len(turn) > 2 else (None, True)
    plain = said and speaker in PLAIN and isinstance(given, str)
    return _Turn(Message(role=role, content=text, loss=loss), tuple(pictures), plain)


def _loss(turn: Mapping[str, Any]) -> tuple[bool | None, bool]:
    """Return whether a turn is learnt, and whether that is all that it holds beside its words."""
    weight = next((turn[key] for key in WEIGHTS if turn.get(key) is not None), None)
    known = {"from", "value"} if "from" in turn else {"role", "content"}
    if weight in (None, 0, 1):
        known |= {"weight", "loss"}
    loss = bool(weight) if isinstance(weight, bool | int | float) else None
    return loss, not set(turn) - known


def _parts(parts: Sequence[Any]) -> tuple[str, list[Place]]:
    """Return a turn given as a list of parts, each picture marked where it stands.

    xtuner lists its pictures first and marks their places in the text: then those marks hold.
    """
    texts: list[str] = []
    pictures: list[Place] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind == "text":
            text = part.get("text", part.get("value")) if isinstance(part, dict) else part
            if not isinstance(text, str):
                raise Bad("wrong_type", f"a text part is {part!r:.80}")
            texts.append(text)
        elif kind in ("image", "image_url"):
            texts.append(IMAGE)
            if (path := _path(part)) is not None:
                pictures.append(path)
        else:
            raise Bad("unsupported_media", f"a part of type {kind!r:.40}; text and images are read")
    words = [text for text in texts if text is not IMAGE]
    if pictures and sum(text.count(mark) for text in words for mark in MARKS) == len(pictures):
        texts = words
    return "".join(texts), pictures


def _path(part: Mapping[str, Any]) -> Place | None:
    """Return where a picture part says its picture is; None where `images` of the row says it."""
    keys = ("image_url", "image", "url", "value")
    given = next((part[key] for key in keys if part.get(key)), None)
    if isinstance(given, dict) and set(given) != INLINE:
        given = need(given, "url", (str, dict))
    return None if given is None else place_of(given)
