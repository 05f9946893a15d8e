"""Records come out of JSON the same in any container, in any block size; damage is named, not lost."""

import gzip
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import DataError
from pipeline import json_file, json_scan
from pipeline.sources.base import Bad, read_json, read_list, read_rows

words = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\,[]{}'))
values = st.recursive(
    words | st.integers(-9, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(words, values, max_size=4)
blocks = st.integers(3, 40)
few = settings(deadline=None, max_examples=40)


@contextmanager
def block_size(size: int) -> Iterator[None]:
    """Read in blocks of so many bytes, and treat every object as a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_file, "BLOCK", size)
        patch.setattr(json_scan, "BLOCK", size)
        patch.setattr(json_file, "WHOLE", 1)
        patch.setattr(json_scan, "RUNAWAY", 64)
        yield


def written(data: bytes, name: str = "x.json") -> Path:
    file = Path(tempfile.mkdtemp()) / name
    file.write_bytes(data)
    return file


@few
@given(st.lists(values), blocks, st.booleans(), st.sampled_from([None, 1]))
def test_an_array_is_its_elements(
    rows: list[Any], size: int, escaped: bool, indent: int | None
) -> None:
    file = written(json.dumps(rows, ensure_ascii=escaped, indent=indent).encode())
    with block_size(size):
        assert list(read_rows(file)) == rows


@few
@given(st.dictionaries(words, records.filter(lambda r: "id" not in r), min_size=1), blocks)
def test_an_object_of_records_keeps_its_keys_as_ids(rows: dict[str, Any], size: int) -> None:
    file = written(json.dumps(rows).encode())
    expected = [{"id": key} | row for key, row in rows.items()]
    assert list(read_rows(file)) == expected
    with block_size(size):
        assert list(read_rows(file)) == expected


@few
@given(st.lists(records, min_size=1), records, blocks)
def test_a_list_under_a_key_is_found_among_others(
    rows: list[Any], head: dict[str, Any], size: int
) -> None:
    content = {**{f"x{key}": value for key, value in head.items()}, "data": rows, "n": 1}
    file = written(json.dumps(content).encode())
    assert list(read_rows(file)) == rows
    with block_size(size):
        assert list(read_list(file, "data")) == rows
        assert list(read_rows(file)) == rows
    with pytest.raises(DataError, match="no list 'n'"):
        list(read_list(file, "n"))


@few
@given(st.lists(records, min_size=2), blocks)
def test_lines_are_records_and_a_damaged_one_is_refused_in_its_place(
    rows: list[Any], size: int
) -> None:
    lines = [json.dumps(row) for row in rows]
    lines.insert(len(rows) - 1, '{"cut off": ')
    file = written("\r\n".join(lines).encode(), "x.jsonl")
    with block_size(size):
        found = list(read_rows(file))
    assert isinstance(found.pop(len(rows) - 1), Bad)
    assert found == rows


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("lines", [True, False])
def test_packed_files_are_unpacked_whatever_their_name(pack: Any, lines: bool) -> None:
    rows = [{"a": i} for i in range(2000)]
    text = "".join(f"{json.dumps(r)}\n" for r in rows) if lines else json.dumps(rows)
    packed = pack(text.encode())
    assert list(read_rows(written(packed, "odd.name"))) == rows
    if lines:
        assert list(read_rows(written(packed * 2))) == rows * 2
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(read_rows(written(packed[: len(packed) // 2])))


@few
@given(st.lists(records, min_size=1), st.data(), blocks)
def test_a_file_that_is_cut_off_says_where(rows: list[Any], data: st.DataObject, size: int) -> None:
    whole = json.dumps(rows, ensure_ascii=False).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    file = written(whole[:cut])
    for read in (read_rows, read_json):
        with pytest.raises(DataError, match=rf"not (JSON|UTF-8) at byte [\d,]+ of {cut:,}"):
            list(read(file))
    with block_size(size), pytest.raises(DataError, match=rf" at byte [\d,]+ of {cut:,}"):
        list(read_rows(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"a": 1}, {"a" 2}]', "at byte 16 of 19"),
        (b'[{"a": 1}, ]', "at byte 10 of 12"),
        (b'[{"a": 1} {"a": 2}]', "at byte 10 of 19"),
        (b'[{"a": 1}}', "at byte 9 of 10"),
        (b'[{"a": 1}] x', "at byte 11 of 12"),
        (b'[{"a": "\xff"}]', "not UTF-8 at byte 8 of 12"),
        (b"\xff\xfe[\0]\0", "not UTF-8 at byte 0 of 6"),
        (b"", "at byte 0 of 0"),
        (b'{"a": 1', "at byte"),
        (b"[", "at byte"),
    ],
)
def test_damage_is_named_by_its_byte(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_rows(written(text)))


def test_not_a_number_is_read_and_half_a_character_refused() -> None:
    rows = list(read_rows(written(b'[{"a": NaN}, {"a": "\\ud83d"}, {"a": 123456789012345678901}]')))
    assert rows[0]["a"] != rows[0]["a"]
    assert isinstance(rows[1], Bad)
    assert rows[1].reason == "broken_text"
    assert rows[2] == {"a": 123456789012345678901.0}
