"""Every container gives the picture's own bytes, in any order, and never what it does not hold."""

import base64
import csv
import gzip
import io
import json
import pickle
import random
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from PIL import Image

from catalog.errors import DataError
from catalog.record import ImageRef
from pipeline.checks import Refused, measure, read_picture
from pipeline.pickles import load_pickle

PICTURES = [bytes([i]) * (100 + i) for i in range(40)]


def write_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, data in enumerate(PICTURES):
            archive.writestr(f"a/{i}.jpg", data)
    return [f"a/{i}.jpg" for i in range(len(PICTURES))]


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i, data in enumerate(PICTURES):
            info = tarfile.TarInfo(f"a/{i}.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path) -> list[str]:
    data = tar_bytes()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return [f"a/{i}.jpg" for i in range(len(PICTURES))]


def arrow_table() -> pa.Table:
    rows = [
        {
            "image": {"bytes": data, "path": f"{i}.jpg"},
            "images": [{"bytes": b"other", "path": None}, {"bytes": data, "path": None}],
            "jpg.raw": data,
            "text": base64.b64encode(data).decode(),
        }
        for i, data in enumerate(PICTURES)
    ]
    return pa.Table.from_pylist(rows)


def cells() -> list[str]:
    paths = ("image.bytes", "image", "images.1.bytes", "images.1", "jpg.raw", "text")
    return [f"{i}:{paths[i % len(paths)]}" for i in range(len(PICTURES))]


def write_parquet(path: Path) -> list[str]:
    pq.write_table(arrow_table(), path, row_group_size=7)
    return cells()


def write_arrow(path: Path) -> list[str]:
    table = arrow_table()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return cells()


def write_delimited(path: Path) -> list[str]:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(["index", "image", "question"])
        for i, data in enumerate(PICTURES):
            text = 'What,\tis "this"\nhere?' if i % 3 else "What?"
            writer.writerow([i, base64.b64encode(data).decode(), text])
    return [f"{i}:image" for i in range(len(PICTURES))]


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "x.zip": write_zip,
    "x.tar": write_tar,
    "x.tar.gz": write_tar,
    "x.tar.zst": write_tar,
    "x.parquet": write_parquet,
    "x.arrow": write_arrow,
    "x.tsv": write_delimited,
    "x.csv": write_delimited,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("order", ["forward", "random"])
def test_each_picture_comes_back_byte_for_byte(name: str, order: str, tmp_path: Path) -> None:
    members = WRITERS[name](tmp_path / name)
    places = list(range(len(PICTURES)))
    if order == "random":
        random.Random(1).shuffle(places)
    for place in places:
        ref = ImageRef(path=name, member=members[place])
        assert read_picture(tmp_path, ref) == PICTURES[place]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_not_there_is_refused_and_the_rest_still_read(name: str, tmp_path: Path) -> None:
    members = WRITERS[name](tmp_path / name)
    for member in ("nothing", "../x", "400:image", "0:none", "-1:image", "0:images.7", ""):
        with pytest.raises(Refused) as refused:
            read_picture(tmp_path, ImageRef(path=name, member=member))
        assert refused.value.reason in {"missing_file", "wrong_member"}
    assert read_picture(tmp_path, ImageRef(path=name, member=members[3])) == PICTURES[3]


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_container_refuses_and_never_crashes(name: str, tmp_path: Path) -> None:
    members = WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    dice = random.Random(name)
    for _ in range(30):
        data = bytearray(whole[: dice.randrange(1, len(whole) + 1)])
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (tmp_path / name).write_bytes(data)
        for member in dice.sample(members, 5):
            try:
                read_picture(tmp_path, ImageRef(path=name, member=member))
            except Refused as refused:
                assert refused.message  # noqa: PT017


def test_a_changed_container_is_opened_again(tmp_path: Path) -> None:
    for data in (b"one", b"three"):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a", data)
        assert read_picture(tmp_path, ImageRef(path="x.zip", member="a")) == data


def test_a_large_row_group_is_read_forward_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.containers.tables.GROUP_BYTES", 1)
    monkeypatch.setattr("pipeline.containers.tables.BATCH_ROWS", 3)
    members = write_parquet(tmp_path / "x.parquet")
    for place in (0, 1, 5, 4, 39, 20, 20):
        ref = ImageRef(path="x.parquet", member=members[place])
        assert read_picture(tmp_path, ref) == PICTURES[place]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_bomb_stops_before_it_fills_the_machine(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.unpack.MAX_BYTES", 1024**2)
    name = "x.tar.gz" if pack is gzip.compress else "x.tar.zst"
    head = tarfile.TarInfo("bomb.jpg")
    head.size = 500_000
    one = head.tobuf() + bytes(500_224)
    (tmp_path / name).write_bytes(pack(one * 100 + bytes(1024)))
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            read_picture(tmp_path, ImageRef(path=name, member="last.jpg"))
        assert refused.value.reason == "zip_bomb"


def test_a_hard_link_in_a_tar_is_its_file_and_a_symbolic_one_is_not(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
        for name, kind in (("hard", tarfile.LNKTYPE), ("soft", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a" if name == "hard" else "/etc/passwd"
            archive.addfile(link)
    assert read_picture(tmp_path, ImageRef(path="x.tar", member="hard")) == b"abc"
    with pytest.raises(Refused, match="no member 'soft'"):
        read_picture(tmp_path, ImageRef(path="x.tar", member="soft"))


def pdf(width: int = 200, height: int = 100) -> bytes:
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]>>",
    ]
    body = "%PDF-1.4\n" + "".join(f"{i} 0 obj{o}endobj\n" for i, o in enumerate(objects, 1))
    return f"{body}trailer<</Root 1 0 R/Size 4>>\n%%EOF".encode()


def test_a_pdf_page_is_drawn_at_twice_its_size_in_points(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(pdf())
    (tmp_path / "huge.pdf").write_bytes(pdf(14_400, 14_400))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    picture = measure(read_picture(tmp_path, ImageRef(path="x.pdf", member="0")))
    assert (picture.format, picture.width, picture.height) == ("PNG", 400, 200)
    for name, member, reason in (
        ("x.pdf", "1", "missing_file"),
        ("huge.pdf", "0", "decompression_bomb"),
        ("broken.pdf", "0", "unreadable_file"),
    ):
        with pytest.raises(Refused) as refused:
            read_picture(tmp_path, ImageRef(path=name, member=member))
        assert refused.value.reason == reason


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_a_pickle_become_pngs(protocol: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    records: list[Any] = [{"image": pixels, "label": np.int64(3)}, {"image": "no!"}]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(records, protocol=protocol))
    data = read_picture(tmp_path, ImageRef(path="x.pkl", member="0:image"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    with pytest.raises(Refused):
        read_picture(tmp_path, ImageRef(path="x.pkl", member="1:image"))


class Evil:
    """Unpickled the usual way, this would make a file."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = (function, args)

    def __reduce__(self) -> Any:
        return self._call


def test_a_pickle_with_code_or_a_forged_array_is_refused(tmp_path: Path) -> None:
    rebuild = np.empty(0).__reduce__()[0]
    for evil in (
        Evil(Path.touch, str(tmp_path / "ran")),
        Evil(rebuild, np.ndarray, (10**13,), b"b"),
        Evil(np.ndarray, (10**13,)),
        Evil(np.load, str(tmp_path / "x.npy")),
    ):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps([evil]))
        with pytest.raises(DataError, match="not a readable pickle"):
            load_pickle(tmp_path / "x.pkl", arrays=True)
    assert not (tmp_path / "ran").exists()


def test_base64_in_json_is_read_by_record_and_path(tmp_path: Path) -> None:
    text = base64.b64encode(PICTURES[7]).decode()
    rows = [{"images": ["x!"]}, {"images": ["", f"data:image/png;base64,{text}"]}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.jsonl.gz").write_bytes(
        gzip.compress("\n".join(json.dumps(row) for row in rows).encode())
    )
    for name in ("x.json", "x.jsonl.gz"):
        for _ in range(2):
            ref = ImageRef(path=name, member="1:images.1")
            assert read_picture(tmp_path, ref) == PICTURES[7]
        for member in ("0:images.0", "0:images.1", "2:images.0"):
            with pytest.raises(Refused):
                read_picture(tmp_path, ImageRef(path=name, member=member))


def test_a_thread_closes_what_it_kept_open_when_it_ends(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    opened: list[int] = []

    def read() -> None:
        assert read_picture(tmp_path, ImageRef(path="x.tar", member="a")) == b"abc"
        opened.append(descriptors(tmp_path / "x.tar"))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert opened == [1]
    assert descriptors(tmp_path / "x.tar") == 0


def descriptors(file: Path) -> int:
    """Return how often this process holds a file open."""
    return sum(each.resolve() == file for each in Path("/proc/self/fd").iterdir())
