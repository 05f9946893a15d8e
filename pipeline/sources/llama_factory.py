"""LLaMA-Factory's data folder, described by dataset_info.json -> Record.

Format: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md

Each entry with a local file is a split; those that only name a data set on a hub are not read.
`tools` stays in `extra`. Of a preference pair the chosen answer is learnt and the rejected one
stays in `extra`; with `kto_tag` false, nothing of the answer is learnt. `num_samples` belongs into a recipe.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.sources.base import Bad, Item, Source, need, read_json, read_rows, refusal, rest, safe
from pipeline.sources.dialog import Dialog, dialog_of, local
from pipeline.sources.each import reader
from pipeline.sources.ms_swift import unlearnt
from pipeline.sources.parquet import parquet_rows

INFO = "dataset_info.json"
LICENSE = "per source"
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
SHAREGPT = {"messages": "conversations"}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
SPEAKERS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one file names its columns and speakers."""

    sharegpt: bool
    columns: Mapping[str, str]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Entry":
        sharegpt = described.get("formatting") == "sharegpt"
        columns, tags = described.get("columns"), described.get("tags")
        for given in (columns or {}, tags or {}):
            if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
                raise Bad("wrong_type", f"{INFO}: {given!r:.80} is not names of columns or tags")
        # Columns that are given replace the usual ones as a whole, tags one by one.
        usual = SHAREGPT if sharegpt else ALPACA
        return cls(sharegpt=sharegpt, columns=columns or usual, tags=TAGS | (tags or {}))


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return a split for each entry with a local file, read from dataset_info.json and that file.

    Raises:
        DataError: dataset_info.json is no JSON.
    """
    info = root / INFO
    content = read_json(info) if info.is_file() else {}
    return {
        name: (info, *_files(root, entry["file_name"]))
        for name, entry in (content.items() if isinstance(content, dict) else ())
        if isinstance(entry, dict) and "file_name" in entry
    }


def _files(root: Path, name: Any) -> tuple[Path, ...]:
    try:
        path = root / safe(name)
    except Bad:
        return ()
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    return (path,) if path.is_file() else ()


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a row of an entry's files."""
    described = read_json(files[0])[split]
    try:
        if len(files) < 2:
            raise Bad("missing_file", f"no file {described['file_name']!r:.200} in the folder")
        say = partial(_say, Entry.of(described))
    except Bad as bad:
        yield refusal("llama_factory", split, INFO, split, bad)
        return
    yield from reader("llama_factory", LICENSE, say, _rows)(root, split, files[1:])


def _rows(root: Path, file: Path) -> Iterable[Any]:
    if file.suffix == ".parquet":
        return parquet_rows(root, file)
    if ".json" in file.name:
        return read_rows(file)
    return [Bad("unsupported_file", f"{file.name} is neither JSON, JSON Lines nor Parquet")]


def _say(entry: Entry, root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row by the names that its entry gives; what no name points to stays in `extra`."""
    columns = entry.columns
    turns, taken = _sharegpt(entry, row) if entry.sharegpt else _alpaca(entry, row)
    if system := _text(row, columns.get("system")):
        turns.insert(0, {"role": "system", "content": system})
    if (chosen := columns.get("chosen")) in row:
        turns.append(_chosen(entry, row[chosen]))
    media = {name: row.get(columns.get(name, name)) for name in ("images", "videos", "audios")}
    said = dialog_of({"messages": turns} | media, at=local(root), monologue=True)
    extra = rest(row, *taken, *(columns.get(name, name) for name in ("system", "chosen", *media)))
    if "messages" in said.extra:
        extra |= {name: row[name] for name in taken if name in row}
    extra |= rest(said.extra, "messages", *media)
    wanted = row.get(columns.get("kto_tag", "")) is not False
    return unlearnt(replace(said, extra=extra), wanted=wanted)


def _sharegpt(entry: Entry, row: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    column = entry.columns.get("messages", "conversations")
    return [_said(entry, turn) for turn in need(row, column, list)], (column,)


def _said(entry: Entry, turn: Any) -> dict[str, Any]:
    role, content = entry.tags["role_tag"], entry.tags["content_tag"]
    speakers = {entry.tags[tag]: speaker for tag, speaker in SPEAKERS.items()}
    speaker = need(turn, role, str)
    told = {"role": speakers.get(speaker, speaker), "content": turn.get(content)}
    return told | rest(turn, role, content)


def _chosen(entry: Entry, answer: Any) -> dict[str, Any]:
    return _said(entry, answer) if isinstance(answer, dict) else _turn("assistant", answer)


def _alpaca(entry: Entry, row: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    columns = entry.columns
    prompt, query = columns.get("prompt", ""), columns.get("query", "")
    history, response = columns.get("history", ""), columns.get("response", "")
    taken = (prompt, query, history, response)
    asked = need(row, prompt, str)
    if not response and "chosen" not in columns:
        # A file of plain text, to learn as it stands.
        return [_turn("assistant", asked)], taken
    turns: list[Any] = []
    for pair in need(row, history, list) if row.get(history) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise Bad("wrong_type", f"a turn of {history!r} is {pair!r:.80}, expected two texts")
        turns += [_turn("user", pair[0]), _turn("assistant", pair[1])]
    given = _text(row, query)
    turns.append(_turn("user", f"{asked}\n{given}" if given else asked))
    if response:
        turns.append(_turn("assistant", need(row, response, str)))
    return turns, taken if not given else (history, response)


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _text(row: dict[str, Any], column: str | None) -> str:
    return str(need(row, column, str)) if column is not None and row.get(column) else ""


LLAMA_FACTORY = Source(
    name="llama_factory",
    title="LLaMA-Factory data folder",
    family="instruction",
    files=(INFO, "the files it names"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
    note="Videos and sound are refused; entries that only name a data set on a hub are not read",
)
