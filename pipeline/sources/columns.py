"""Rows of any table -> Record: which column is the picture, the question, the answer, the text.

A job's `options: {columns: ...}` names them; what it leaves open is recognised by the usual names.
"""

import base64
import math
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from catalog.errors import UserError
from catalog.record import IMAGE, ImageRef, Message, Record, Task
from pipeline.explain import mistakes
from pipeline.sources.base import Bad, Item, need, refusal, rest
from pipeline.sources.dialog import dialog_of
from pipeline.sources.each import record_id
from pipeline.sources.rows import lettered
from pipeline.typed import Typed

NAME = 64
"""A text of at most so many characters is no picture."""
LETTERS = string.ascii_uppercase
NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "questionid", "uid", "sample_id", "image_id", "__key__", "key", "index"),
    "images": ("images", "image", "img", "picture", "image_path", "image_file", "file_name", "filename",
               "jpg", "jpeg", "png", "webp"),
    "question": ("question", "query", "prompt", "instruction", "problem"),
    "answers": ("answers",),
    "answer": ("answer", "multiple_choice_answer", "response", "output", "target", "label", "completion",
               "solution", "cls"),
    "choices": ("choices", "options"),
    "hint": ("hint", "context", "input"),
    "caption": ("caption", "captions", "txt", "description", "text"),
    "messages": ("messages", "conversations", "conversation", "texts"),
    "system": ("system", "system_prompt"),
    "text": ("text", "txt", "content", "markdown", "document", "raw_content", "body"),
    "license": ("license",),
}  # fmt: skip
"""Field -> column names it is recognised by, in lower case, the surest first."""


class Columns(Typed):
    """Which columns hold what; None: recognised by name. An empty text switches a field off."""

    id: str | None = None
    images: str | tuple[str, ...] | None = None
    """One column, of a picture or a list of them, or several columns."""
    question: str | None = None
    answer: str | None = None
    answers: str | None = None
    choices: str | tuple[str, ...] | None = None
    """A column with a list, or one column a choice."""
    hint: str | None = None
    caption: str | None = None
    messages: str | None = None
    system: str | None = None
    text: str | None = None
    license: str | None = None


class TableOptions(Typed):
    """What a job may say to a table reader; `options_of` says which of them a reader takes."""

    columns: Columns = Columns()
    task: Task | None = None
    license: str | None = None
    unit: Literal["file", "line", "blank"] = "file"
    """What is a document in a text file: the file, a line, or what stands between blank lines."""
    hub: str | None = None
    """Name of a dataset on the Hugging Face hub, downloaded into the root when that is empty."""
    config: str | None = None
    revision: str | None = None


def options_of(
    source: str,
    options: Mapping[str, Any],
    *more: str,
    columns: Sequence[str] = tuple(Columns.model_fields),
) -> TableOptions:
    """Return the validated options of a job.

    Args:
        more: options that the source takes beside those of every table.
        columns: the columns that it looks at.

    Raises:
        UserError: an option is unknown or has a wrong type; names those that the source takes.
    """
    taken = ("columns", "license", *more)
    fix = f"{source} takes the options {', '.join(taken)}; of columns, {', '.join(columns)}"
    given = options.get("columns")
    unknown = [name for name in options if name not in taken]
    unknown += (
        [f"columns.{n}" for n in given if n not in columns] if isinstance(given, dict) else []
    )
    if unknown:
        raise UserError(f"{source}: no such option: {', '.join(unknown)}", fix=fix)
    try:
        return TableOptions.model_validate(dict(options))
    except ValidationError as error:
        first = mistakes(error, TableOptions, dict(options))[0]
        raise UserError(
            f"{source}: option {first.field}: {first.problem}", fix=f"{first.fix}; {fix}"
        ) from error


Place = Callable[[str, Any], list[ImageRef]]
"""(column, value) -> the pictures that a cell holds or names; raises `Bad`."""


def records(
    source: str,
    split: str,
    file: str,
    rows: Iterable[Any],
    options: TableOptions,
    place: Callable[[int], Place],
    *,
    license: str,
    labels: Mapping[str, list[str]] | None = None,
    seen: set[str] | None = None,
) -> Iterator[Item]:
    """Yield one record a row, in order; a row that cannot be read is a refusal.

    Args:
        place: row position -> what finds the pictures of its cells.
        labels: names of the classes of columns that hold class numbers.
        seen: ids given so far in the split; one that comes again is told apart by its place.
    """
    seen = set() if seen is None else seen
    for position, row in enumerate(rows):
        key = f"#{position}"
        try:
            if isinstance(row, Bad):
                raise row
            if not isinstance(row, dict):
                raise Bad("wrong_type", f"the record is {type(row).__name__}, not an object")
            chosen = choose(options.columns, row)
            own = {"id": row.get(chosen["id"])} if "id" in chosen else {}
            key = record_id(own, f"{file}#{position}", seen)
            yield _record(
                source,
                split,
                file,
                key,
                row,
                chosen,
                options,
                place(position),
                license,
                labels or {},
            )
        except Bad as bad:
            yield refusal(source, split, file, key, bad)


def choose(columns: Columns, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return field -> column (or a tuple of columns) for a row.

    >>> choose(Columns(), {"Question": "?", "answer": "a", "image": None})
    {'images': ('image',), 'question': 'Question', 'answer': 'answer'}

    Raises:
        Bad: a column that the options name is not there.
    """
    lower = {name.lower(): name for name in row}
    chosen: dict[str, Any] = {}
    for field, names in NAMES.items():
        told = getattr(columns, field)
        if told is not None:
            wanted = (told,) if isinstance(told, str) else told
            if missing := [name for name in wanted if name and name not in row]:
                raise Bad("missing_field", f"no column {', '.join(missing)} for {field!r}")
            if told:
                chosen[field] = tuple(wanted) if field in ("images", "choices") else told
            continue
        if field == "images":
            found = tuple(lower[name] for name in names if name in lower)[:1]
            numbered = sorted(n for n in lower if n.startswith("image_") and n[6:].isdecimal())
            found = found or tuple(lower[name] for name in numbered)
            if found:
                chosen[field] = found
            continue
        first = next((lower[name] for name in names if name in lower), None)
        if first is not None:
            chosen[field] = (first,) if field == "choices" else first
    if "choices" not in chosen and columns.choices is None and {"A", "B"} <= set(row):
        chosen["choices"] = tuple(letter for letter in LETTERS if letter in row)
    return chosen


def _record(
    source: str,
    split: str,
    file: str,
    key: str,
    row: dict[str, Any],
    chosen: dict[str, Any],
    options: TableOptions,
    place: Place,
    license: str,
    labels: Mapping[str, list[str]],
) -> Record:
    held = {column: place(column, row[column]) for column in chosen.get("images", ())}
    images = [ref for refs in held.values() for ref in refs]
    taken: set[str] = set()
    values = dict(row)
    for column, names in labels.items():
        if isinstance(row.get(column), int) and 0 <= row[column] < len(names):
            values[column] = names[row[column]]
    choices: tuple[str, ...] = ()
    index: int | None = None
    answers: tuple[str, ...] | None = None
    told: dict[str, Any] = {}
    task: Task
    if _given(values, chosen, "messages"):
        taken = {chosen["messages"]}
        messages, images, told = _dialogue(values[chosen["messages"]], images)
        task = "conversation"
        if _given(values, chosen, "system") and messages[0].role != "system":
            messages.insert(0, Message(role="system", content=_text(values, chosen["system"])))
            taken.add(chosen["system"])
    elif _given(values, chosen, "question"):
        messages, choices, index, answers = _question(values, chosen, taken)
        task = "vqa" if images else "text"
    elif images and _given(values, chosen, "caption"):
        taken = {chosen["caption"]}
        answers = tuple(_texts(values, chosen["caption"]))
        messages, task = [Message(role="assistant", content=answers[0])], "caption"
    elif images and (_given(values, chosen, "answer") or _given(values, chosen, "answers")):
        answers = tuple(_answers(values, chosen, taken) or ())
        messages, task = [Message(role="assistant", content=answers[0])], "vqa"
    elif _given(values, chosen, "text"):
        taken = {chosen["text"]}
        messages = [Message(role="assistant", content=_text(values, chosen["text"]))]
        task = "text"
    else:
        raise Bad("no_text", f"none of the columns {', '.join(row)} holds a question or a text")
    own = row.get(chosen.get("license", ""))
    kept = {name: plain(value) for name, value in row.items() if name not in taken}
    for column, refs in held.items():
        kept.pop(column, None)
        here = any(ref.member is not None and ref.path == file for ref in refs)
        if (path := _path(row[column], here)) is not None:
            kept[column] = path
    kept |= told
    return Record(
        source=source,
        split=split,
        native_id=key,
        task=options.task or ("text" if task == "conversation" and not images else task),
        images=tuple(images),
        messages=tuple(_placed(messages, len(images))),
        answers=answers,
        choices=choices,
        answer_index=index,
        license=own if isinstance(own, str) and own else options.license or license,
        extra=kept,
        file=file,
    )


def _given(values: Mapping[str, Any], chosen: Mapping[str, Any], field: str) -> bool:
    value = values.get(chosen.get(field, ""))
    return value is not None and value != "" and value != [] and value == value


def _text(values: Mapping[str, Any], column: str) -> str:
    value = values[column]
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise Bad("wrong_type", f"{column!r} is {value!r:.80}, expected text")
    return value


def _texts(values: Mapping[str, Any], column: str) -> list[str]:
    value = values[column]
    items = value if isinstance(value, list) else [value]
    texts = [_text({column: item["text"] if isinstance(item, dict) and "text" in item else item}, column)
             for item in items]  # fmt: skip
    if not texts:
        raise Bad("empty_answer", f"{column!r} is an empty list")
    return texts


def _dialogue(
    turns: Any, images: list[ImageRef]
) -> tuple[list[Message], list[ImageRef], dict[str, Any]]:
    """Return the messages, the pictures, and the turns as they were where the messages say less."""
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "user" in turns[0]:
        pairs = []
        for turn in turns:  # as in The Cauldron
            pairs.append(Message(role="user", content=need(turn, "user", str)))
            pairs.append(Message(role="assistant", content=need(turn, "assistant", str)))
        more = any(rest(turn, "user", "assistant") for turn in turns)
        return pairs, images, {"texts": plain(turns)} if more else {}
    row = {"messages": turns, "images": images} if images else {"messages": turns}
    said = dialog_of(row, monologue=True)
    return list(said.messages), list(said.images), dict(said.extra)


def _question(
    values: Mapping[str, Any], chosen: Mapping[str, Any], taken: set[str]
) -> tuple[list[Message], tuple[str, ...], int | None, tuple[str, ...] | None]:
    question = _text(values, chosen["question"])
    taken.add(chosen["question"])
    if _given(values, chosen, "hint"):
        question = f"{_text(values, chosen['hint'])}\n{question}"
    choices = _choices(values, chosen.get("choices", ()), taken)
    answers = _answers(values, chosen, taken)
    index = None
    if choices and answers is not None and len(answers) == 1:
        index = _index(answers[0], values.get(chosen.get("answer", "")), choices)
        if index is not None:
            answers = (choices[index],)
    if choices:
        question = lettered(question, choices)
    messages = [Message(role="user", content=question)]
    if _given(values, chosen, "system"):
        messages.insert(0, Message(role="system", content=_text(values, chosen["system"])))
        taken.add(chosen["system"])
    if answers:
        said = answers[0] if index is None else f"{LETTERS[index]}. {choices[index]}"
        messages.append(Message(role="assistant", content=said))
    return messages, choices, index, answers


def _choices(
    values: Mapping[str, Any], columns: tuple[str, ...], taken: set[str]
) -> tuple[str, ...]:
    found: list[str] = []
    for column in columns:
        value = values.get(column)
        if isinstance(value, list):
            found += [_text({column: item}, column) for item in value]
        elif value is not None and value == value and value != "":
            found.append(_text(values, column))
    if len(found) > len(LETTERS):
        raise Bad("too_many_choices", f"{len(found)} choices")
    taken.update(columns)
    return tuple(found)


def _answers(
    values: Mapping[str, Any], chosen: Mapping[str, Any], taken: set[str]
) -> tuple[str, ...] | None:
    for field in ("answers", "answer"):
        if _given(values, chosen, field):
            value = values[chosen[field]]
            if isinstance(value, list) and all(
                isinstance(a, dict) and "answer" in a for a in value
            ):
                return tuple(_text(a, "answer") for a in value)  # VQA's; the rest stays in extra
            if field == "answers" or "choices" not in chosen:
                taken.add(chosen[field])
            return tuple(_texts(values, chosen[field]))
    return None


def _index(answer: str, raw: Any, choices: tuple[str, ...]) -> int | None:
    """Return which choice is right: by letter, by text, or by number where the file has a number.

    >>> _index("B", "B", ("cat", "dog")), _index("dog", "dog", ("cat", "dog")), _index("1", 1, ("a", "b"))
    (1, 1, 1)
    """
    if answer in choices:
        return choices.index(answer)
    bare = answer.strip().strip("().")
    if len(bare) == 1 and bare.upper() in LETTERS[: len(choices)]:
        return LETTERS.index(bare.upper())
    if isinstance(raw, int) and 0 <= raw < len(choices):
        return raw
    return None


def _placed(messages: list[Message], images: int) -> list[Message]:
    """Give each picture a mark: those without one stand in front of the first turn not the system's."""
    marks = sum(message.content.count(IMAGE) for message in messages) if images else 0
    if marks == images:
        return messages
    if marks:
        raise Bad("placeholder_mismatch", f"{marks} {IMAGE} marks for {images} pictures")
    first = next((i for i, message in enumerate(messages) if message.role != "system"), None)
    if first is None:
        raise Bad("no_user_turn", "a picture, and no turn to show it in")
    if messages[first].role == "assistant":
        shown = Message(role="user", content=IMAGE * images)
        return [*messages[:first], shown, *messages[first:]]
    old = messages[first]
    new = Message(role=old.role, content=f"{IMAGE}\n" * images + old.content, loss=old.loss)
    return [*messages[:first], new, *messages[first + 1 :]]


def _path(value: Any, here: bool) -> Any:
    """Return what a picture's cell says beside its bytes: its name, or the row that has its picture.

    `here`: the picture is read from this file, so that a long text is the picture itself.
    """
    if isinstance(value, list):
        paths = [_path(item, here) for item in value]
        return paths if any(path is not None for path in paths) else None
    if isinstance(value, dict):
        return value.get("path")
    named = isinstance(value, str) and not value.startswith("data:")
    return value if named and len(value) <= (NAME if here else 1024) else None


def plain(value: Any) -> Any:
    """Return a value as JSON can say it: bytes as base64, what is no number as its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)
