"""A dialogue in any of the field's spellings -> messages with marked pictures.

Turns: https://github.com/haotian-liu/LLaVA/blob/main/docs/Data.md, and the fine-tuning guides of
MiniCPM-V, InternLM-XComposer, xtuner, ms-swift, LLaMA-Factory and OpenAI's list of parts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from catalog.record import IMAGE, ImageRef, Message, Region, Role
from pipeline.sources.base import Bad, need, rest, safe

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
MARKS = (IMAGE, "<ImageHere>", "<IMG_CONTEXT>")
"""How a picture's place is spelled; a record keeps to one spelling."""
MEDIA = ("video", "videos", "audio", "audios")
WEIGHTS = ("weight", "loss", "loss_weight", "loss_scale")
DATA_URL = "data:"
INLINE = {"path", "member"}
"""The keys that `referred` puts in the place of a base64 picture."""
Place = str | ImageRef
At = Callable[[str], str]
"""A picture's path as the record gives it -> its place under the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """What a row says, and what else it holds."""

    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    extra: dict[str, Any]
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
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
    paths = _beside(given) or [path for turn in read for path in turn.pictures]
    if isinstance(given, dict) and "path" not in given:
        messages, paths = _named(messages, given)
        extra[beside] = given
    images = [path if isinstance(path, ImageRef) else ImageRef(path=at(path)) for path in paths]
    pairs = zip(images, paths, strict=True)
    if not all(path is ref or ref.path.endswith(str(path)) for ref, path in pairs):
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
    key = next((key for key in TURNS if isinstance(row.get(key), list)), None)
    if key is None:
        raise Bad("missing_field", f"none of {', '.join(TURNS)} is a list")
    if not row[key]:
        raise Bad("empty_conversation", "there is no turn")
    return key, row[key]


def without_lead(messages: Sequence[Message], *, monologue: bool = False) -> list[Message]:
    """Return the turns from the first that is not the assistant's: it answers nothing before.

    Raises:
        Bad: `no_user_turn`, only the assistant speaks; with `monologue` that is text to learn.
    """
    first = next((i for i, message in enumerate(messages) if message.role != "assistant"), None)
    if first is None and not monologue:
        raise Bad("no_user_turn", "only the assistant speaks")
    return list(messages[first or 0 :])


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
    if held := [key for key in MEDIA if row.get(key)]:
        raise Bad(
            "unsupported_media", f"the record holds {', '.join(held)}; only pictures are read"
        )


def _turn(turn: Any) -> _Turn:
    if not isinstance(turn, dict):
        raise Bad("wrong_type", f"a turn is {type(turn).__name__}, not an object")
    speaker = turn.get("from", turn.get("role"))
    if not isinstance(speaker, str) or speaker.lower() not in ROLES:
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
    weight = next((turn[key] for key in WEIGHTS if turn.get(key) is not None), None)
    known = {"from", "value"} if "from" in turn else {"role", "content"}
    if weight in (None, 0, 1):
        known |= {"weight", "loss"}
    return _Turn(
        message=Message(
            role=ROLES[speaker.lower()],
            content=text,
            loss=bool(weight) if isinstance(weight, bool | int | float) else None,
        ),
        pictures=tuple(pictures),
        plain=isinstance(given, str) and speaker in PLAIN and not set(turn) - known,
    )


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
    return None if given is None else _place(given)


def _beside(value: Any) -> list[Place]:
    """Return the pictures of `image` or `images`: of a path, a list, lists in a list, or None."""
    if value is None:
        return []
    if isinstance(value, list):
        return [place for item in value for place in _beside("" if item is None else item)]
    if isinstance(value, dict) and set(value) != INLINE:
        # ms-swift's {path, bytes}, or MiniCPM-V's {placeholder: path}, whose order the text gives.
        return _beside(value.get("path", list(value.values())))
    return [_place(value)]


def _place(value: Any) -> Place:
    if isinstance(value, ImageRef):
        return value
    if isinstance(value, dict) and set(value) == INLINE:
        return ImageRef(**value)
    if not isinstance(value, str) or not value:
        raise Bad("wrong_type", f"a picture's path is {value!r:.80}, not text")
    if value.startswith(DATA_URL):
        raise Bad("inline_picture", "a picture is base64 inside the record, not a file")
    return value


def referred(value: Any, file: str, member: str) -> Any:
    """Return a record whose base64 pictures are replaced by where they stand.

    >>> referred({"images": ["data:image/png;base64,aGk="]}, "a.json", "7:")
    {'images': [{'path': 'a.json', 'member': '7:images.0'}]}
    """
    dot = "" if member.endswith(":") else "."
    if isinstance(value, dict):
        return {key: referred(v, file, f"{member}{dot}{key}") for key, v in value.items()}
    if isinstance(value, list):
        return [referred(v, file, f"{member}{dot}{number}") for number, v in enumerate(value)]
    if isinstance(value, str) and value.startswith(DATA_URL):
        return {"path": file, "member": member}
    return value


def _named(
    messages: Sequence[Message], paths: Mapping[str, Any]
) -> tuple[list[Message], list[Place]]:
    """Order pictures whose marks have names, such as `<image_00>`, as the text shows them."""
    names = re.compile("|".join(re.escape(name) for name in paths if name) or "(?!)")
    shown = [name for message in messages for name in names.findall(message.content)]
    if not shown:
        return list(messages), [_place(path) for path in paths.values()]
    if sorted(shown) != sorted(paths):
        raise Bad("placeholder_mismatch", f"marks {shown} for the pictures {sorted(paths)}")
    marked = [replace(m, content=names.sub(IMAGE, m.content)) for m in messages]
    return marked, [_place(paths[name]) for name in shown]


def placed(messages: Sequence[Message], pictures: int) -> tuple[list[Message], str]:
    """Check the picture marks, and write them as `<image>`; return how they were spelled.

    A record without any gets them in front of its first user turn. In a record without pictures a
    mark is only text.

    Raises:
        Bad: `placeholder_mismatch`, there are marks, but not one for each picture.
    """
    found = list(messages)
    if not pictures:
        return found, IMAGE
    counts = {mark: sum(m.content.count(mark) for m in messages) for mark in MARKS}
    spelling = next((mark for mark in MARKS if counts[mark]), None)
    if spelling is None:
        return _in_front(found, pictures), IMAGE
    if counts[spelling] != pictures:
        raise Bad(
            "placeholder_mismatch", f"{counts[spelling]} {spelling} marks for {pictures} pictures"
        )
    return [replace(m, content=m.content.replace(spelling, IMAGE)) for m in found], spelling


def _in_front(messages: list[Message], pictures: int) -> list[Message]:
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise Bad("no_user_turn", "a picture, and no user turn to show it in")
    old = messages[first]
    shown = replace(old, content=f"{IMAGE}\n" * pictures + old.content)
    return [*messages[:first], shown, *messages[first + 1 :]]
