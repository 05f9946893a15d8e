"""Evaluation of a run: every question answered once, judged by its rule, beside the baselines."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from catalog.errors import UserError
from model.baselines import baseline, predict
from model.benchmarks import BENCHMARKS, Row, asked, benchmark_of, rows_for
from model.evaluate import Evaluation, evaluate
from model.items import read_items
from model.judge import SCORE, Answer, judge
from model.metrics import METRICS
from model.scoreboard import scoreboard
from model.suite import Suite
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.prompt import BOXES
from tests.finished import make_run
from tests.official import write_picture
from tests.tokenizer import make_tokenizer

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def done(run: Path) -> Evaluation:
    return evaluate(run, "val", batch_size=3)


def rows_of(run: Path, source: str, split: str) -> list[dict[str, Any]]:
    frame = Catalog.open(run.parent / "catalog").samples()
    rows = frame.collect().to_dicts()
    return [row for row in rows if row["source"] == source and row["split"] == split]


def items_of(found: Evaluation) -> list[dict[str, Any]]:
    files = sorted((found.folder / "items").glob("*.parquet"))
    return [item for file in files for item in read_items(file)]


def test_every_question_is_answered_once_in_the_servers_form(run: Path, done: Evaluation) -> None:
    asked = {int(row["native_id"]) for row in rows_of(run, "vqav2", "val")}
    entries = json.loads((done.folder / "predictions" / "vqav2.json").read_text())
    assert [sorted(entry) for entry in entries] == [["answer", "question_id"]] * len(asked)
    assert {entry["question_id"] for entry in entries} == asked
    assert {item["prediction"] for item in items_of(done)} == {e["answer"] for e in entries}


def test_scores_are_those_of_the_items_and_the_majority_knows_the_training_answers(
    done: Evaluation,
) -> None:
    result = done.scores["sources"]["vqav2"]
    assert result["questions"] == result["scored"] == len(items_of(done))
    assert result["majority_answer"] == "cat"
    assert result["majority"]["accuracy"] == result["majority"]["question_type/what is"] == 1.0
    for who in ("model", "blind", "majority"):
        scores = [item[SCORE[who]] for item in items_of(done)]
        assert result[who]["accuracy"] == pytest.approx(sum(scores) / len(scores))


def test_batches_change_no_answer(run: Path, done: Evaluation, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("eval"))
    again = evaluate(other, "val", batch_size=1)
    assert [item["prediction"] for item in items_of(again)] == [
        item["prediction"] for item in items_of(done)
    ]


def test_what_is_up_to_date_is_not_answered_again(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("eval"))
    counted: list[tuple[str, int, int]] = []
    first = evaluate(mine, "val", progress=lambda *seen: counted.append(seen))
    assert first.answered == ("vqav2",)
    assert counted[-1] == ("vqav2", 10, 10)
    before = {f: f.stat().st_mtime_ns for f in first.folder.rglob("*") if f.is_file()}
    second = evaluate(mine, "val")
    assert second.answered == ()
    assert second.scores == first.scores
    assert before == {f: f.stat().st_mtime_ns for f in first.folder.rglob("*") if f.is_file()}
    # Another question asked, or another model: it is answered again.
    limited = evaluate(mine, "val", limit=4)
    assert limited.answered == ("vqav2",)
    assert limited.scores["sources"]["vqav2"]["questions"] == 4
    (mine / "model" / "note.txt").write_text("another model")
    assert evaluate(mine, "val", limit=4).answered == ("vqav2",)


def test_a_second_source_is_kept_beside_the_first(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("eval"))
    assert evaluate(mine, "train", limit=3, sources=["vqav2"]).answered == ("vqav2",)
    both = evaluate(mine, "train", limit=3)
    assert both.answered == ("refcoco",)
    assert sorted(both.scores["sources"]) == ["refcoco", "vqav2"]
    chat = evaluate(mine, "train", limit=3, sources=["alpaca"], blind=False)
    assert chat.scores["sources"]["alpaca"]["metric"] == "exact_match"
    assert chat.scores["sources"]["alpaca"]["blind"] is None


def test_boxes_are_judged_against_the_true_box_and_the_mean_box(run: Path) -> None:
    found = evaluate(run, "testA")
    result = found.scores["sources"]["refcoco"]
    [constant] = {tuple(result["majority_answer"])}
    rows = rows_of(run, "refcoco", "testA")
    # Both training expressions mean the box 10, 5, 30, 25 in a picture of 40 x 30 pixels.
    assert constant == pytest.approx((10 / 40, 5 / 30, 30 / 40, 25 / 30))
    assert predict(list(constant), rows[0]) == pytest.approx([10, 5, 30, 25])
    assert {"accuracy", "unreadable"} == set(result["model"])
    entries = json.loads((found.folder / "predictions" / "refcoco.json").read_text())
    assert [entry["gt_bbox"] for entry in entries] == [row["regions"][0]["box"] for row in rows]
    assert entries[0]["hw"] == [30, 40]


@pytest.mark.parametrize("boxes", BOXES)
def test_true_answers_get_full_marks(run: Path, boxes: str) -> None:
    for source, split in (("vqav2", "val"), ("refcoco", "testA")):
        rows = [
            {**row, "question_type": "x", "answer_type": "y"} for row in rows_of(run, source, split)
        ]
        truths = [
            row["answers"][0]
            if source == "vqav2"
            else BOXES[boxes].write(row["regions"][0]["box"], row["widths"][0], row["heights"][0])
            for row in rows
        ]
        answers = [Answer(text=truth, blind=None) for truth in truths]
        result, items = judge(source, rows, answers, None, boxes)
        assert result["model"]["accuracy"] == pytest.approx(1.0)
        assert result["blind"] is None
        assert result["majority"] is None
        assert len(items) == len(rows)


def test_a_suite_asks_as_the_benchmarks_do(run: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "benchmarks:\n"
        "  - {source: vqav2, split: val, limit: 2}\n"
        "  - {source: refcoco, split: testA, suffix: Now.}\n"
    )
    first, second = Suite.load(tmp_path / "suite.yaml").benchmarks
    assert first.instruction == "Answer the question using a single word or phrase."
    assert second.instruction == "Now."
    row = rows_of(run, "vqav2", "val")[0]
    assert asked(row, "Now.")["messages"][0]["content"] == row["messages"][0]["content"] + "\nNow."
    assert asked(row, "")["messages"] == row["messages"]
    scores = [
        evaluate(run, each.split, sources=[each.source], limit=2, blind=False).scores
        for each in (first, second)
    ]
    table = scoreboard(scores)
    assert next(iter(table.columns[0].cells)) == "vqav2 val"
    (tmp_path / "suite.yaml").write_text("benchmarks:\n  - {sauce: vqav2, split: val}\n")
    with pytest.raises(UserError, match=r"suite.yaml.*line 2"):
        Suite.load(tmp_path / "suite.yaml")
    twice = "benchmarks:\n" + "  - {source: vqav2, split: val}\n" * 2
    (tmp_path / "suite.yaml").write_text(twice)
    with pytest.raises(UserError, match="vqav2 val listed twice"):
        Suite.load(tmp_path / "suite.yaml")


def test_hidden_answers_are_answered_but_not_scored(run: Path) -> None:
    rows = [
        {**row, "answers": None, "question_type": None, "answer_type": None}
        for row in rows_of(run, "vqav2", "val")
    ]
    answers = [Answer(text="cat", blind="dog") for _ in rows]
    result, items = judge("vqav2", rows, answers, "cat", "shikra")
    assert (result["questions"], result["scored"], result["model"]) == (10, 0, None)
    assert {item["score"] for item in items} == {None}
    scoreboard({"split": "test", "sources": {"vqav2": result}})


def test_the_table_shows_the_model_beside_its_baselines(done: Evaluation) -> None:
    table = scoreboard(done.scores)
    assert table.row_count == 2
    assert [column.header for column in table.columns][3:6] == ["model", "blind", "majority"]


def test_points_are_shown_as_points() -> None:
    figures = {"total": 1531.25, "perception": 1531.25}
    known = {"title": "MME points", "questions": 2, "measure": "total", "most": 2800.0}
    whose = {"model": figures, "blind": None, "majority": None, "majority_answer": None}
    table = scoreboard({"split": "MME", "sources": {"mme": known | whose}})
    assert list(table.columns[3].cells) == ["1,531.2"]


def test_options_are_asked_for_by_letter_only_where_there_are_options() -> None:
    row = {"messages": [{"role": "user", "content": "Why?"}], "choices": ["a", "b"]}
    letter = benchmark_of("mmmu").suffix
    assert asked(row, letter)["messages"][0]["content"].endswith("directly.")
    none = asked(row | {"choices": []}, letter)
    assert none["messages"][0]["content"].endswith("single word or phrase.")


@pytest.mark.parametrize("source", BENCHMARKS)
def test_every_benchmark_names_a_metric(source: str) -> None:
    assert benchmark_of(source).metric in METRICS


TABLES = ("mmbench", "mmmu", "mathvista", "realworldqa", "pope", "mme")
"""Benchmarks that are ingested as tables of VLMEvalKit, under these names."""


def table_row(source: str, number: int) -> dict[str, str]:
    """Return a row of a benchmark's table; two rows of MME are one picture's."""
    row = {"index": str(number), "image_path": "a.png", "question": "Is it?"}
    if source in ("pope", "mme"):
        return row | {"answer": "No" if number % 2 else "Yes", "category": "existence"}
    if source == "mathvista":
        kinds = {"question_type": "free_form", "answer_type": "integer", "precision": ""}
        return row | kinds | {"answer": "14", "task": "geometry"}
    options = {"A": "cat", "B": "dog", "answer": "B", "category": "Art", "l2-category": "x"}
    return row | options


@pytest.mark.parametrize("source", TABLES)
def test_tables_of_vlmevalkit_are_judged_by_their_benchmark(source: str, tmp_path: Path) -> None:
    rows = [table_row(source, number) for number in (0, 1)]
    lines = ["\t".join(row.values()) for row in rows]
    root = tmp_path / "release"
    write_picture(root / "a.png", 1)
    (root / "Bench.tsv").write_text("\n".join(["\t".join(rows[0]), *lines]) + "\n")
    ingest(Job(source="tsv", root=root, name=source), tmp_path / "catalog")
    found = rows_for(Catalog.open(tmp_path / "catalog"), source, "Bench")
    assert len(found) == 2
    answers = [
        Answer(text=truth(row, benchmark_of(source).reference(row)), blind=None) for row in found
    ]
    result, _ = judge(source, found, answers, None, "shikra")
    full = 200.0 if source == "mme" else 1.0
    assert result["model"][METRICS[result["metric"]].measure] == full


@pytest.mark.parametrize("source", [name for name in BENCHMARKS if name not in TABLES])
def test_true_answers_of_a_release_get_full_marks(source: str, tmp_path: Path) -> None:
    ingest(Job(source=source, root=DATA / source), tmp_path)
    catalog = Catalog.open(tmp_path)
    bench = benchmark_of(source)
    scored = 0
    for split in catalog.counts()[source]:
        rows = [row for row in rows_for(catalog, source, split) if bench.reference(row) is not None]
        if bench.metric == "aokvqa_direct":
            rows = [row for row in rows if row["difficult_direct_answer"] == "false"]
        if not rows:
            continue
        truths = [truth(row, bench.reference(row)) for row in rows]
        result, items = judge(
            source, rows, [Answer(text=t, blind=None) for t in truths], None, "shikra"
        )
        scored += len(items)
        if bench.metric in FULL:
            assert result["model"][METRICS[bench.metric].measure] == pytest.approx(1.0)
    assert scored


FULL = ("gqa", "anls", "scienceqa", "ai2d", "chartqa_relaxed", "ocrvqa", "refcoco")
"""Metrics that one true answer satisfies; the others ask how many people gave it."""


def truth(row: Row, reference: Any) -> str:
    if isinstance(reference, int):
        return "ABCDE"[reference]
    if isinstance(reference, tuple):
        return BOXES["shikra"].write(reference, row["widths"][0], row["heights"][0])
    return str(reference if isinstance(reference, str) else reference[0])


def test_a_source_without_training_answers_has_no_baseline(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    assert baseline(catalog, "vqav2") is None
    assert baseline(catalog, "refcoco") is None
    assert predict(None, {}) is None


def test_bad_use_is_explained(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run"):
        evaluate(tmp_path / "nothing", "val")
    with pytest.raises(UserError, match=r"no trained model there\nFix: run `cuvee train`"):
        evaluate(make_tokenizer(tmp_path / "tok"), "val")
    with pytest.raises(
        UserError, match=r"nothing to judge in split 'vall'\nFix: .*vqav2: train, val"
    ):
        evaluate(run, "vall")
    with pytest.raises(UserError, match="no source vqav3"):
        evaluate(run, "val", sources=["vqav3"])
