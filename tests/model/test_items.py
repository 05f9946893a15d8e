"""Judged questions as a table, and answers that outlive a killed evaluation."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from catalog import Catalog
from model.evaluate import evaluate
from model.items import SCHEMA, read_items, write_items
from model.journal import Journal
from model.judge import Answer
from model.predictions import score_items, score_split
from tests.finished import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("run"))
    evaluate(run, "val")
    evaluate(run, "testA", blind=False)
    return run


def test_all_items_of_a_run_are_one_typed_table(run: Path) -> None:
    table = pl.scan_parquet(run / "eval" / "*" / "items" / "*.parquet").collect()
    assert table.schema == SCHEMA
    assert table.group_by("split", "source", "metric").len().sort("split").rows() == [
        ("testA", "refcoco", "refcoco", 2),
        ("val", "vqav2", "vqa_accuracy", 10),
    ]
    scores = json.loads((run / "eval" / "val" / "scores.json").read_bytes())["sources"]["vqav2"]
    mine = table.filter(pl.col("source") == "vqav2")
    assert mine["score"].mean() == pytest.approx(scores["model"]["accuracy"])
    assert mine["blind_score"].mean() == pytest.approx(scores["blind"]["accuracy"])
    assert {len(references) for references in mine["references"]} == {10}
    boxes = table.filter(pl.col("source") == "refcoco")
    catalog = Catalog.open(run.parent / "catalog").samples().collect()
    rows = {row["sample_id"]: row for row in catalog.to_dicts()}
    for item in boxes.to_dicts():
        row = rows[item["sample_id"]]
        assert item["true_box"] == row["regions"][0]["box"]
        assert [item["width"], item["height"]] == [row["widths"][0], row["heights"][0]]
        assert item["image_ids"] == row["image_ids"]
        assert json.loads(item["majority_answer"]) == pytest.approx([10, 5, 30, 25])
    assert boxes["blind_answer"].to_list() == [None, None]


def test_items_are_predictions_that_score_the_same_again(run: Path) -> None:
    for split, source in (("val", "vqav2"), ("testA", "refcoco")):
        folder = run / "eval" / split
        result = json.loads((folder / "scores.json").read_bytes())["sources"][source]
        file = folder / "items" / f"{source}.parquet"
        assert score_items(file, result["metric"]).figures == pytest.approx(result["model"])
        catalog = Catalog.open(run.parent / "catalog")
        scored = score_split(file, catalog, source, split, "shikra")
        assert scored.figures == pytest.approx(result["model"])


def test_what_has_no_column_comes_back_from_extra(tmp_path: Path) -> None:
    item = {"source": "x", "score": 0.5, "choices": ["a", "b"], "reference": 1, "image_ids": []}
    write_items(tmp_path / "items.parquet", [item, item | {"score": None}])
    first, second = read_items(tmp_path / "items.parquet")
    assert {name: first[name] for name in item} == item
    assert second["score"] is None
    write_items(tmp_path / "none.parquet", [])
    assert pl.read_parquet(tmp_path / "none.parquet").schema == SCHEMA


def test_an_evaluation_that_was_killed_asks_only_what_is_left(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("eval"))

    def killed(source: str, done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(mine, "val", batch_size=3, progress=killed)
    folder = mine / "eval" / "val"
    journal = folder / "answers" / "vqav2.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 6
    # Killed in the middle of a line, too.
    journal.write_text(journal.read_text() + '["5", "ca')
    counted: list[int] = []
    again = evaluate(mine, "val", batch_size=3, progress=lambda *seen: counted.append(seen[1]))
    assert counted == [9, 10]
    assert not journal.exists()
    whole = evaluate(run, "val")
    assert again.scores["sources"] == whole.scores["sources"]
    assert read_items(folder / "items" / "vqav2.parquet") == read_items(
        run / "eval" / "val" / "items" / "vqav2.parquet"
    )


def test_answers_to_another_question_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "a" / "x.jsonl"
    with closing(Journal(file, "one")) as journal:
        journal.add(["1", "2"], [Answer(text="é\n", blind=None), Answer(text="", blind="b")])
    with closing(Journal(file, "one")) as journal:
        assert journal.answers == {
            "1": Answer(text="é\n", blind=None),
            "2": Answer(text="", blind="b"),
        }
    with closing(Journal(file, "two")) as journal:
        assert journal.answers == {}
        journal.remove()
    assert not file.exists()


def test_scores_never_stand_beside_items_of_another_evaluation(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("eval"))
    evaluate(mine, "train", limit=2)
    folder = mine / "eval" / "train"
    assert sorted(f.stem for f in (folder / "items").iterdir()) == ["refcoco", "vqav2"]
    # Other questions of one source: what was said of the others is kept only if it is still true.
    evaluate(mine, "train", limit=3, sources=["vqav2"])
    assert [f.stem for f in (folder / "items").iterdir()] == ["vqav2"]
    assert list(json.loads((folder / "scores.json").read_bytes())["sources"]) == ["vqav2"]
    (folder / "predictions" / "vqav2.json").unlink()
    assert evaluate(mine, "train", limit=3, sources=["vqav2"]).answered == ("vqav2",)
