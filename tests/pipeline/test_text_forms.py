"""Texts survive the escapes and delimiters of their official files."""

import string

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.icdar_txt import _bare, _quoted, _unquoted
from pipeline.sources.kleister import unescaped as kleister
from pipeline.sources.regions import xywh
from pipeline.sources.wikitablequestions import unescaped as wikitable
from pipeline.sources.words import around, outline

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
CORNERS = st.lists(st.integers(-50, 5000), min_size=8, max_size=8)


@given(CORNERS, LINE)
def test_a_text_may_hold_commas_and_quotes(corners: list[int], text: str) -> None:
    points = ",".join(map(str, corners))
    assert _bare(f"{points},{text}").label == text
    assert _quoted(f'{points},1,"{text}"').label == text
    assert _quoted(f'{points},1,"{text}"').polygons == (tuple(map(float, corners)),)


@given(st.text(st.sampled_from(string.ascii_letters + ',"#')))
def test_only_the_outer_quotes_are_taken_off(text: str) -> None:
    assert _unquoted(f' "{text}"') == text


@given(st.text(st.sampled_from("ab\\|\n\tp ")))
def test_cells_read_as_they_were_before_they_were_escaped(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    assert wikitable(escaped.replace("|", "\\p")) == text
    assert kleister(escaped.replace("\t", "\\t")) == text


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2))
def test_polygons_are_the_same_flat_and_in_pairs(points: list[tuple[float, float]]) -> None:
    flat = outline([value for point in points for value in point])
    assert outline([list(point) for point in points]) == flat
    x0, y0, x1, y1 = around(flat)
    assert all(x0 <= x <= x1 and y0 <= y <= y1 for x, y in points)


@given(*[st.integers(-1000, 1000)] * 4)
def test_sides_become_corners(x: int, y: int, width: int, height: int) -> None:
    assert xywh([x, y, width, height]) == (x, y, x + width, y + height)
