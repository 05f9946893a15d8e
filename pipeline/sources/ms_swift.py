"""ms-swift's custom data sets, in each of the forms it accepts -> Record.

Format: https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html

Boxes of `objects` are regions, marked where the text has `<bbox>`; points are written into the text
as their numbers. A CSV file has a column a key; lists in its cells are spelt in JSON or in Python.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from catalog.record import Message, Region, region_mark
from pipeline.sources.alpaca import answer_key, before
from pipeline.sources.base import Bad, Source, need, rest
from pipeline.sources.dialog import Dialog, dialog_of, local, turns_of
from pipeline.sources.each import reader, rows_of_json, split_a_file
from pipeline.sources.files import csv_cells, csv_rows
from pipeline.sources.plain import plain
from pipeline.sources.qwen_vl import LICENSE, inlined
from pipeline.sources.regions import FRACTIONS, relative_box

LISTS = ("messages", "conversation", "history", "images", "objects", "rejected_messages", "tools")
"""Columns of CSV files that spell a list or an object."""
REF, BBOX = "<ref-object>", "<bbox>"
PLACE = re.compile(f"{REF}|{BBOX}")
KEYS = ("messages", "conversation", "query", "instruction")
FORMS = ("messages", "conversation", "query", "response", "history", "instruction", "input")
"""What holds the words of a row, in one form or another."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Make each file a split, named by its stem; a CSV file is one of these by its header."""
    found = split_a_file("*.jsonl", "*.json", keys=KEYS)(root)
    for file in sorted(root.glob("*.csv")):
        header = next(csv_cells(file), [])
        if set(header) & set(KEYS):
            found[file.stem] = (*found.get(file.stem, ()), file)
    return found


def rows_of(root: Path, file: Path) -> Iterable[Any]:
    """Yield the rows of a file; those of CSV with their lists read, without empty cells."""
    if file.suffix != ".csv":
        return rows_of_json(root, file)
    return (_read_cells(row) if isinstance(row, dict) else row for row in csv_rows(file))


def _read_cells(row: dict[str, str]) -> dict[str, Any] | Bad:
    read: dict[str, Any] = {}
    for key, cell in row.items():
        spelt = key in LISTS and cell.lstrip()[:1] in ("[", "{")
        try:
            if cell.strip():
                read[key] = _list_of(cell) if spelt else cell
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return Bad("broken_cell", f"{key!r} is {cell!r:.80}: neither JSON nor Python")
    return read


def _list_of(cell: str) -> Any:
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return plain(ast.literal_eval(cell.strip()))


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row of any form; `label: false` marks an answer not to learn."""
    told = inlined(with_messages(row))
    if not told.get("objects"):
        said = dialog_of(told, at=local(root), monologue=True)
    else:
        filled, regions = _with_objects(told)
        said = replace(dialog_of(filled, at=local(root), monologue=True), regions=regions)
        # The text no longer shows which words were marks.
        said.extra.update({key: row[key] for key in FORMS if key in row})
    return unlearnt(said, wanted=row.get("label") is not False)


def unlearnt(said: Dialog, *, wanted: bool) -> Dialog:
    """Return the dialogue; one that people did not want, without a turn to learn."""
    messages = tuple(
        message if wanted or message.role != "assistant" else replace(message, loss=False)
        for message in said.messages
    )
    return replace(said, messages=messages)


def with_messages(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of any form with its turns as `messages`.

    >>> with_messages({"query": "Hi", "response": "Hello", "images": ["a.jpg"]})["messages"]
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    taken: tuple[str, ...]
    if isinstance(row.get("messages"), list):
        turns, taken = row["messages"], ("messages",)
    elif isinstance(row.get("conversation"), list):
        turns, taken = list(_pairs(row["conversation"])), ("conversation",)
    elif "query" in row:
        turns, taken = list(_query(row)), ("query", "response", "history")
    elif "instruction" in row:
        # Where the input is joined to the instruction, `extra` keeps the two apart.
        joined = () if row.get("input") else ("instruction", "input")
        turns, taken = list(_instruction(row)), (answer_key(row), "history", *joined)
    else:
        raise Bad("missing_field", "none of messages, conversation, query, instruction")
    if row.get("system"):
        turns = [_turn(Message(role="system", content=need(row, "system", str))), *turns]
        taken = (*taken, "system")
    return {"messages": turns} | rest(row, *taken)


def _turn(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def _pairs(pairs: list[Any]) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        yield {"role": "user", "content": need(pair, "human", str)}
        yield {"role": "assistant", "content": need(pair, "assistant", str)}


def _query(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from map(_turn, before(rest(row, "system")))
    yield {"role": "user", "content": need(row, "query", str)}
    if row.get("response") is not None:
        yield {"role": "assistant", "content": need(row, "response", str)}


def _instruction(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    given = row.get("input")
    asked = need(row, "instruction", str)
    yield from map(_turn, before(rest(row, "system")))
    text = f"{asked}\n{need(row, 'input', str)}" if given else asked
    yield {"role": "user", "content": text}
    yield {"role": "assistant", "content": need(row, answer_key(row), str)}


def _with_objects(row: dict[str, Any]) -> tuple[dict[str, Any], tuple[Region, ...]]:
    """Return a row with its objects written into the text, and those that are regions.

    Each `<ref-object>` takes the next name and each `<bbox>` the next box, over all turns.

    Raises:
        Bad: `placeholder_mismatch`, either has not one mark for each.
    """
    objects = need(row, "objects", dict)
    names, boxes = _list(objects, "ref"), _list(objects, "bbox")
    key, turns = turns_of(row)
    texts = [turn["content"] for turn in turns if _is_text(turn)]
    for mark, held in ((REF, names), (BBOX, boxes)):
        marks = sum(text.count(mark) for text in texts)
        if marks != len(held):
            raise Bad("placeholder_mismatch", f"{marks} {mark} marks for {len(held)} of 'objects'")
    regions: list[Region] = []
    words: list[str] = []
    for number, box in enumerate(boxes):
        word, region = _box(objects, number, box, names)
        if region is not None:
            word = region_mark(len(regions))
            regions.append(region)
        words.append(word)
    told = {REF: iter(names), BBOX: iter(words)}
    filled = [
        turn | {"content": PLACE.sub(lambda mark: str(next(told[mark[0]])), turn["content"])}
        if _is_text(turn)
        else turn
        for turn in turns
    ]
    return row | {key: filled}, tuple(regions)


def _is_text(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("content"), str)


def _list(objects: Mapping[str, Any], key: str) -> list[Any]:
    return [] if objects.get(key) is None else list(need(objects, key, list))


def _box(
    objects: Mapping[str, Any], number: int, box: Any, names: list[Any]
) -> tuple[str, Region | None]:
    """Return how a point is written as numbers, or a box's region."""
    if not isinstance(box, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in box
    ):
        raise Bad("wrong_type", f"a 'bbox' is {box!r:.80}, expected numbers")
    word = orjson.dumps(box).decode()
    if len(box) != 4:
        return word, None
    label = names[0] if len(names) == 1 else names[number] if len(names) > number else ""
    if not isinstance(label, str):
        raise Bad("wrong_type", f"a 'ref' is {label!r:.80}, expected str")
    images = _list(objects, "image_id")
    image = images[number] if number < len(images) else 0
    if not isinstance(image, int):
        raise Bad("wrong_type", f"an 'image_id' is {image!r:.80}, expected int")
    match objects.get("bbox_type", "real"):
        case "real":
            x0, y0, x1, y1 = map(float, box)
            return word, Region(label=label, box=(x0, y0, x1, y1), image=image)
        case "norm1":
            extra = relative_box([float(value) for value in box], FRACTIONS)
            return word, Region(label=label, box=None, image=image, extra=extra)
        case other:
            raise Bad("unknown_bbox_type", f"'bbox_type' is {other!r:.80}: neither real nor norm1")


MS_SWIFT = Source(
    name="ms_swift",
    title="ms-swift custom data",
    family="instruction",
    files=("*.jsonl, *.json or *.csv with `messages`, `conversation`, `query` or `instruction`",),
    splits=splits,
    reader=reader("ms_swift", LICENSE, say, rows_of, in_place=True),
    license=LICENSE,
    homepage="https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html",
    note="Videos and sound are refused; the spelling of lists in CSV cells is unverified",
)
