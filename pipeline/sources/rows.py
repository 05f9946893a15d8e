"""What readers share: the loop from rows to records or refusals, and texts out of rows."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import DataError
from catalog.record import IMAGE, Message, Record
from pipeline.sources.base import Bad, Item, need, refusal


def records(
    source: str,
    split: str,
    file: str,
    rows: Iterable[Any],
    record: Callable[[int, Any], Record],
    *,
    key: str,
) -> Iterator[Item]:
    """Yield `record(position, row)` for each row; where it cannot be read, the refusal.

    A refusal names the row by its field `key`, or by its position.
    """
    for position, row in enumerate(rows):
        try:
            if isinstance(row, Bad):
                raise row
            yield record(position, row)
        except Bad as bad:
            own = row.get(key) if isinstance(row, dict) else None
            name = own if isinstance(own, int | str) else f"#{position}"
            yield refusal(source, split, file, name, bad)


def asked(question: str, answer: str | None) -> tuple[Message, ...]:
    """Return the turns of a question on one picture; None: the answer is hidden.

    The answer is learnt without blanks around it.
    """
    user = Message(role="user", content=f"{IMAGE}\n{question}")
    return (user,) if answer is None else (user, Message(role="assistant", content=answer.strip()))


def lettered(question: str, choices: Iterable[str]) -> str:
    """Return a question with its choices, a letter and a line each.

    >>> lettered("What falls?", ["rain", "snow"])
    'What falls?\\nA. rain\\nB. snow'
    """
    lines = [f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(choices)]
    return "\n".join([question, *lines])


def texts(row: Any, key: str) -> tuple[str, ...]:
    """Return a field that is a list of texts.

    Raises:
        Bad: it is missing, or something else.
    """
    return tuple(need({key: item}, key, str) for item in need(row, key, list))


def as_text(value: Any) -> str:
    """Return an answer of any JSON type as text: texts as they are, a list's items with commas.

    >>> as_text(12.5), as_text(True), as_text(["a", 3])
    ('12.5', 'Yes', 'a, 3')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, list):
        return ", ".join(as_text(item) for item in value)
    return orjson.dumps(value).decode()


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: it is not UTF-8; says the byte.
    """
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 at byte {error.start:,} of {len(data):,}",
            file=file,
            fix="download the file again, or convert it to UTF-8",
        ) from error
