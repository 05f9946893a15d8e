"""Where a dialogue's pictures are, and the marks in its messages where they stand."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from catalog.record import IMAGE, ImageRef, Message
from pipeline.sources.base import Bad, need, safe

MARKS = (IMAGE, "<ImageHere>", "<IMG_CONTEXT>", "<|image|>")
"""How a picture's place is spelled; a record keeps to one spelling."""
DATA_URL = "data:"
INLINE = {"path", "member"}
"""The keys that `referred` puts in the place of a base64 picture."""
Place = str | ImageRef
"""A path as the record gives it, or a place that is known already."""


def pictures_of(value: Any) -> list[Place]:
    """Return the pictures of `image` or `images`: of a path, a list, lists in a list, or None."""
    if value is None:
        return []
    if isinstance(value, list):
        return [place for item in value for place in pictures_of("" if item is None else item)]
    if isinstance(value, dict) and set(value) != INLINE:
        # ms-swift's {path, bytes}, or MiniCPM-V's {placeholder: path}, whose order the text gives.
        return pictures_of(value.get("path", list(value.values())))
    return [place_of(value)]


def place_of(value: Any) -> Place:
    """Return where one picture is.

    Raises:
        Bad: it is no path, or `inline_picture`: base64, whose place only the reader knows.
    """
    if isinstance(value, ImageRef):
        return value
    if isinstance(value, dict) and set(value) == INLINE:
        return ImageRef(path=safe(value["path"]), member=need(value, "member", str))
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


def named(
    messages: Sequence[Message], paths: Mapping[str, Any]
) -> tuple[list[Message], list[Place]]:
    """Order pictures whose marks have names, such as `<image_00>`, as the text shows them.

    Raises:
        Bad: `placeholder_mismatch`, there are marks, but not each name's once.
    """
    names = re.compile("|".join(re.escape(name) for name in paths if name) or "(?!)")
    shown = [name for message in messages for name in names.findall(message.content)]
    if not shown:
        return list(messages), [place_of(path) for path in paths.values()]
    if sorted(shown) != sorted(paths):
        raise Bad("placeholder_mismatch", f"marks {shown} for the pictures {sorted(paths)}")
    marked = [replace(m, content=names.sub(IMAGE, m.content)) for m in messages]
    return marked, [place_of(paths[name]) for name in shown]


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
    for spelling in MARKS:
        if count := sum([message.content.count(spelling) for message in messages]):
            break
    else:
        return _in_front(found, pictures), IMAGE
    if count != pictures:
        raise Bad("placeholder_mismatch", f"{count} {spelling} marks for {pictures} pictures")
    if spelling == IMAGE:
        return found, IMAGE
    return [replace(m, content=m.content.replace(spelling, IMAGE)) for m in found], spelling


def _in_front(messages: list[Message], pictures: int) -> list[Message]:
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise Bad("no_user_turn", "a picture, and no user turn to show it in")
    old = messages[first]
    shown = replace(old, content=f"{IMAGE}\n" * pictures + old.content)
    return [*messages[:first], shown, *messages[first + 1 :]]
