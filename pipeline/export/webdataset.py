"""WebDataset shards: for each draw `KEY.json` and its pictures `KEY.0.jpg`, `KEY.1.png`, ...

Format: https://github.com/webdataset/webdataset
"""

import io
import tarfile
from pathlib import Path

import orjson

from pipeline.export.rows import Drawn
from pipeline.plan import Plan


def write(file: Path, folder: Path, rows: list[Drawn]) -> None:
    """Write a shard; the same rows give the same bytes."""
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            _add(tar, f"{row.key}.json", orjson.dumps(described(row)))
            for number, (name, data) in enumerate(row.pictures):
                _add(tar, f"{row.key}.{number}.{name.rpartition('.')[2]}", data)


def described(row: Drawn) -> dict[str, object]:
    """Return what a draw is besides its pictures."""
    return {
        "messages": row.messages,
        "images": [name for name, _ in row.pictures],
        "sample_id": row.sample_id,
        "step": row.step,
        "pack": row.pack,
        "tokens": row.tokens,
        **row.origin,
    }


def _add(tar: tarfile.TarFile, name: str, data: bytes | memoryview) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Nothing describes all shards."""
