"""LLaVA's conversation JSON: one list of records in the plan's order, pictures in `images/`.

Format: https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md
"""

from pathlib import Path

import orjson

from pipeline.export.rows import Drawn
from pipeline.plan import Plan

_FROM = {"user": "human", "assistant": "gpt", "system": "system"}


def write(file: Path, folder: Path, rows: list[Drawn]) -> None:
    """Write a shard's records, a line each, and its pictures unless they are there."""
    lines = []
    for row in rows:
        save_pictures(folder, row)
        names = [f"images/{name}" for name, _ in row.pictures]
        record: dict[str, object] = {"id": row.key}
        if names:
            record["image"] = names[0] if len(names) == 1 else names
        record["conversations"] = [
            {"from": _FROM.get(turn["role"], turn["role"]), "value": turn["content"]}
            for turn in row.messages
        ]
        lines.append(orjson.dumps(record))
    file.write_bytes(b"\n".join(lines))


def save_pictures(folder: Path, row: Drawn) -> None:
    """Write a draw's pictures to `images/` unless they are there."""
    for name, data in row.pictures:
        place = folder / "images" / name
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            new = place.with_name(f".{name}.new")
            new.write_bytes(data)
            new.replace(place)


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Join the shards' records to one list, `llava.json`."""
    new, first = folder / ".llava.json.new", True
    with new.open("wb") as file:
        file.write(b"[\n")
        for shard in shards:
            if lines := shard.read_bytes():
                file.write((b"" if first else b",\n") + lines.replace(b"\n", b",\n"))
                first = False
        file.write(b"\n]\n")
    new.replace(folder / "llava.json")
