"""The picture store: every picture is found, nothing else is, and the index is only a cache."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CuveeError, UserError
from catalog.images import ImageStore, verify
from catalog.index import PictureIndex, digests_of
from catalog.parts import write_part
from catalog.schema import IMAGES


def id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(file: Path, values: Iterable[bytes]) -> Path:
    rows = [
        {"image_id": id_of(value), "size": len(value), "data": value, "format": "JPEG"}
        for value in values
    ]
    write_part(file, pa.Table.from_pylist(rows, schema=IMAGES), binary="data")
    return file


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=50), unique=True, max_size=60), st.integers(1, 4))
def test_every_picture_is_found_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes], parts: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    files = [write(folder / f"{n}.parquet", values[n::parts]) for n in range(parts)]
    ids, unknown = [id_of(value) for value in values], id_of(b"x" * 51)
    for store in (ImageStore(files), ImageStore(files, folder / "cache")):
        assert len(store) == len(values)
        assert [bytes(store.get(image_id)) for image_id in ids] == values
        assert [bytes(view) for view in store.get_many(ids)] == values
        places = store.places(pl.Series([*ids, unknown], dtype=pl.String)).tolist()
        assert places == [store.place(image_id) for image_id in ids] + [-1]
        assert unknown not in store
        with pytest.raises(UserError, match="no picture"):
            store.get_many([*ids, unknown])


def test_pictures_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    near = [bytes(31) + bytes([number]) for number in range(9)]
    index = PictureIndex.of([write(tmp_path / "a.parquet", [bytes([n]) for n in range(9)])])
    digests = digests_of([value.hex() for value in near])
    fan = [0] + [9] * (len(index.fan) - 1)
    alike = PictureIndex(
        digests=digests,
        fan=pl.Series(fan, dtype=pl.UInt32).to_numpy(),
        part=index.part,
        offset=index.offset,
        size=index.size,
    )
    ids = [value.hex() for value in [*near[::-1], bytes(31) + b"\xff"]]
    assert alike.places(ids).tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0, -1]


def test_the_index_on_disk_follows_the_files(tmp_path: Path) -> None:
    one = write(tmp_path / "1.parquet", [b"one"])
    assert len(ImageStore([one], tmp_path / "cache")) == 1
    two = write(tmp_path / "2.parquet", [b"two"])
    store = ImageStore([one, two], tmp_path / "cache")
    assert bytes(store.get(id_of(b"two"))) == b"two"
    assert len(list((tmp_path / "cache").iterdir())) == 1
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("no folder can be made here")
    assert bytes(ImageStore([one, two], tmp_path / "cache").get(id_of(b"one"))) == b"one"


def test_what_is_no_id_is_explained(tmp_path: Path) -> None:
    store = ImageStore([write(tmp_path / "1.parquet", [b"one"])])
    for wrong in (["zz"], pl.Series(["z" * 64]), pl.Series([None], dtype=pl.String)):
        with pytest.raises(UserError, match="no picture id"):
            store.places(wrong)


def test_damaged_pictures_and_files_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "1.parquet", [b"one" * 100, b"two" * 100])
    broken = write(tmp_path / "2.parquet", [b"three" * 100])
    data = bytearray(file.read_bytes())
    data[data.find(b"two" * 100) + 7] ^= 1
    file.write_bytes(data)
    broken.write_bytes(broken.read_bytes()[:-9])
    found = [each for each in verify([file, broken]) if each]
    assert [(each.image_id, each.file, each.row) for each in found] == [
        (id_of(b"two" * 100), file, 1),
        ("", broken, -1),
    ]
    with pytest.raises(CuveeError, match="cuvee verify"):
        ImageStore([broken])
