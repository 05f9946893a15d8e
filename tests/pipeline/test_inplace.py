"""Lists read in place: the same elements as a whole parse gives, or an error that names the byte."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import DataError
from pipeline.sources.inplace import WHOLE, Lists

patient = settings(deadline=None)
"""A machine under load is slow, not wrong."""
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
lists = st.lists(values, max_size=5)


@patient
@given(lists, lists, values, st.sampled_from([None, 1]), st.booleans())
def test_elements_are_those_of_a_whole_parse(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[object],
    second: list[object],
    other: object,
    indent: int | None,
    mark: bool,
) -> None:
    file = tmp_path_factory.mktemp("lists") / "a.json"
    content = {"info": other, "images": first, 'a"b[': other, "annotations": second}
    text = json.dumps(content, indent=indent)
    file.write_text(("\ufeff" if mark else "") + text, encoding="utf-8")
    found = Lists(file, ("images", "annotations"))
    assert [element for _, element in found.each("images")] == first
    assert [element for _, element in found.each("annotations")] == second
    file.write_text(json.dumps(first, indent=indent))
    assert [element for _, element in Lists(file, (WHOLE,)).each(WHOLE)] == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON at byte 0 of 0"),
        (b'{"images": [{"id": 1}', "not JSON at byte 21 of 21: it ends early"),
        (b'{"images": [{"id": }]}', "not JSON at byte 19 of 22"),
        (b'{"images": [{"id": "\xff"}]}', "not UTF-8 at byte 20 of 25"),
        (b'{"images": {}}', "no list 'images'"),
        (b'{"images": []} {}', "more after its end"),
        (b"[1]", "no list 'images'"),
        (b"17", "it ends early"),
        (b"]", "it ends early"),
    ],
)
def test_a_broken_file_names_itself_and_the_byte(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text)
    with pytest.raises(DataError, match=words) as error:
        list(Lists(file, ("images",)).each("images"))
    assert "a.json" in str(error.value)


def test_an_element_between_objects_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"images": [1, {"a": 2}, null, "x, y", [3], true]}')
    found = [element for _, element in Lists(file, ("images",)).each("images")]
    assert found == [1, {"a": 2}, None, "x, y", [3], True]
