"""Anybody's predictions: read in every form, matched to their questions, scored as ours are."""

import json
from pathlib import Path

import polars as pl
import pytest

from catalog import Catalog
from catalog.errors import DataError, UserError
from model.predictions import read_predictions, score_items, score_split
from pipeline.ingest import ingest
from pipeline.jobs import Job
from tests.official import write_vqav2


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    root = write_vqav2(tmp_path / "vqav2", questions=6)
    write_vqav2(root, split="val2014", questions=4)
    ingest(Job(source="vqav2", root=root), tmp_path / "catalog")
    return Catalog.open(tmp_path / "catalog")


def test_every_form_of_a_file_reads_the_same(tmp_path: Path) -> None:
    entries = [{"question_id": 1, "answer": "cat"}, {"question_id": 2, "answer": "dog"}]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n\n")
    pl.DataFrame(entries).write_parquet(tmp_path / "c.parquet")
    assert all(read_predictions(tmp_path / name) == entries for name in ("a.json", "b.jsonl"))
    assert read_predictions(tmp_path / "c.parquet") == entries
    (tmp_path / "d.json").write_text(json.dumps({"1": "cat", "x": {"direct_answer": "dog"}}))
    assert read_predictions(tmp_path / "d.json") == [
        {"id": "1", "answer": "cat"},
        {"id": "x", "direct_answer": "dog"},
    ]


def test_items_are_scored_by_the_metric_that_is_named(tmp_path: Path) -> None:
    items = [
        {"prediction": "B", "reference": "B", "choices": ["x", "y"]},
        {"prediction": None, "reference": "A", "choices": ["x", "y"]},
    ]
    (tmp_path / "items.json").write_text(json.dumps(items))
    scored = score_items(tmp_path / "items.json", "mcq")
    assert (scored.figures["accuracy"], scored.missing) == (0.5, 1)
    with pytest.raises(UserError, match="no metric 'mcqa'"):
        score_items(tmp_path / "items.json", "mcqa")
    with pytest.raises(UserError, match="mcq has no option rule"):
        score_items(tmp_path / "items.json", "mcq", {"rule": 1})


def test_a_servers_file_is_scored_against_the_catalog(catalog: Catalog, tmp_path: Path) -> None:
    rows = catalog.samples().filter(pl.col("split") == "val").collect()
    ids = rows["native_id"].to_list()
    entries = [{"question_id": int(key), "answer": "cat"} for key in ids[:-1]]
    file = tmp_path / "p.json"
    file.write_text(json.dumps([*entries, {"question_id": 999, "answer": "x"}]))
    scored = score_split(file, catalog, "vqav2", "val", "shikra")
    assert scored.figures["accuracy"] == pytest.approx(3 / 4)
    assert scored.majority is not None
    assert scored.majority["accuracy"] == 1.0
    assert (scored.items, scored.missing, scored.unknown) == (4, 1, 1)


def test_what_does_not_fit_is_explained(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"question_id": 5, "answer": "cat"}]))
    with pytest.raises(UserError, match="none of its 1 ids"):
        score_split(file, catalog, "vqav2", "val", "shikra")
    with pytest.raises(UserError, match="no vqav2 test"):
        score_split(file, catalog, "vqav2", "test", "shikra")
    file.write_text(json.dumps([{"question_id": 5, "answer": "a"}] * 2))
    with pytest.raises(DataError, match="a second prediction"):
        score_split(file, catalog, "vqav2", "val", "shikra")
    file.write_text(json.dumps([{"q": 5}]))
    with pytest.raises(DataError, match=r"record '#0'.*no id and answer"):
        score_split(file, catalog, "vqav2", "val", "shikra")
    file.write_text('{"a": 1}\n{"a"')
    with pytest.raises(DataError, match="line 2"):
        read_predictions(file)


def test_a_line_ends_where_json_lines_end(tmp_path: Path) -> None:
    entries = [{"id": 1, "answer": "one\u2028line\x85"}, {"id": 2, "answer": "b"}]
    lines = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    assert read_predictions(tmp_path / "a.jsonl") == entries


def test_truth_beside_an_answer_is_not_taken_for_the_answer(
    catalog: Catalog, tmp_path: Path
) -> None:
    rows = catalog.samples().filter(pl.col("split") == "val").collect()
    entries = [
        {"pid": key, "answer": "cat", "response": "dog", "prediction": None}
        for key in rows["native_id"]
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    scored = score_split(tmp_path / "p.json", catalog, "vqav2", "val", "shikra")
    assert (scored.figures["accuracy"], scored.missing) == (0.0, 0)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.parquet", b"PAR1 not at all PAR1", "write the Parquet file again"),
        ("a.json", b'[{"answer": "\xff"}]', "not UTF-8"),
    ],
)
def test_a_damaged_file_is_named(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said) as stopped:
        read_predictions(tmp_path / name)
    assert name in str(stopped.value)
