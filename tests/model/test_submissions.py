"""Prediction files: in each benchmark's own form, and read back with the same figures."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from catalog.errors import DataError
from model.benchmarks import BENCHMARKS, benchmark_of, rows_for
from model.judge import Answer, judge
from model.predictions import read_predictions, score_items, score_split
from model.submissions import submission
from pipeline.ingest import ingest
from pipeline.jobs import Job
from tests.model.test_evaluate import TABLES, table_row, truth
from tests.official import write_picture

DATA = Path(__file__).parent.parent / "data"
Rows = list[dict[str, Any]]


def table(source: str, folder: Path, rows: list[dict[str, str]]) -> tuple[Catalog, Rows]:
    """Ingest rows as a table of VLMEvalKit; return what its split asks."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    for number, name in enumerate(sorted({row["image_path"] for row in rows})):
        write_picture(folder / "release" / name, number)
    (folder / "release" / "Bench.tsv").write_text(text.getvalue())
    ingest(Job(source="tsv", root=folder / "release", name=source), folder / "catalog")
    catalog = Catalog.open(folder / "catalog")
    return catalog, rows_for(catalog, source, "Bench")


def asked(source: str, folder: Path) -> tuple[Catalog, str, Rows]:
    """Return the first split of a fixture that has references, and what it asks."""
    if source in TABLES:
        found = table(source, folder, [table_row(source, number) for number in (0, 1)])
        return found[0], "Bench", found[1]
    ingest(Job(source=source, root=DATA / source), folder)
    catalog, bench = Catalog.open(folder), benchmark_of(source)
    for split in sorted(catalog.counts()[source]):
        rows = rows_for(catalog, source, split)
        if any(bench.reference(row) is not None for row in rows):
            return catalog, split, rows
    raise AssertionError(f"{source} has no references in its fixture")


def written(folder: Path, source: str, rows: Rows, answers: list[str]) -> Path:
    """Write a submission; return its file, or its folder if it has several."""
    files = submission(source, rows, answers)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    first = folder / next(iter(files))
    return first if first.parent == folder else first.parent


IDLESS = ("refcoco", "refcoco+", "refcocog", "mme")
"""Their official files name no question."""


@pytest.mark.parametrize("source", [name for name in BENCHMARKS if name not in IDLESS])
def test_a_submission_read_back_scores_as_the_evaluation_did(source: str, tmp_path: Path) -> None:
    catalog, split, rows = asked(source, tmp_path)
    bench = benchmark_of(source)
    rows = [row for row in rows if bench.reference(row) is not None]
    # The first answer is true, the others are not.
    answers = [truth(rows[0], bench.reference(rows[0])), *("nonsense" for _ in rows[1:])]
    said = [Answer(text=answer, blind=None) for answer in answers]
    result, _ = judge(source, rows, said, None, "shikra")
    file = written(tmp_path, source, rows, answers)
    scored = score_split(file, catalog, source, split, "shikra")
    assert scored.missing == scored.unknown == 0
    assert scored.figures == pytest.approx(result["model"])


@pytest.mark.parametrize(
    ("source", "form"),
    {
        "vqav2": {"question_id": int, "answer": str},
        "okvqa": {"question_id": int, "answer": str},
        "textvqa": {"question_id": int, "answer": str},
        "stvqa": {"question_id": int, "answer": str},
        "vizwiz": {"image": str, "answer": str},
        "gqa": {"questionId": str, "prediction": str},
        "docvqa": {"questionId": int, "answer": str},
        "infographicvqa": {"questionId": int, "answer": str},
        "coco_captions": {"image_id": int, "caption": str},
        "refcoco": {"answer": str, "gt_bbox": list, "hw": list},
        "refcocog": {"answer": str, "gt_bbox": list, "hw": list},
    }.items(),
)
def test_servers_get_a_list_with_their_fields_and_types(
    source: str, form: dict[str, type], tmp_path: Path
) -> None:
    _, _, rows = asked(source, tmp_path)
    entries = json.loads(written(tmp_path, source, rows, ["Cat"] * len(rows)).read_text())
    assert len(entries) == len(rows)
    for entry in entries:
        assert {name: type(value) for name, value in entry.items()} == form


def test_a_caption_is_asked_once_a_picture(tmp_path: Path) -> None:
    ingest(Job(source="coco_captions", root=DATA / "coco_captions"), tmp_path)
    catalog = Catalog.open(tmp_path)
    samples = catalog.samples().collect().to_dicts()
    two = [row for row in samples if row["split"] == "val2014"]
    rows = rows_for(catalog, "coco_captions", "val2014")
    assert (len(two), len(rows)) == (2, 1)
    assert rows[0]["answers"] == ["A cat on a mat.\n", "A  cat."]
    [entry] = json.loads(submission("coco_captions", rows, ["A cat."])["coco_captions.json"])
    assert entry == {"image_id": 42, "caption": "A cat."}


def test_vizwiz_gets_answers_through_the_evalai_processor(tmp_path: Path) -> None:
    _, _, rows = asked("vizwiz", tmp_path)
    entries = json.loads(written(tmp_path, "vizwiz", rows, ["The Cat."] * len(rows)).read_text())
    assert {entry["answer"] for entry in entries} == {"cat"}


def test_scienceqa_and_aokvqa_get_objects_by_id(tmp_path: Path) -> None:
    _, _, rows = asked("scienceqa", tmp_path / "s")
    results = json.loads(submission("scienceqa", rows[:2], ["B", "?"])["scienceqa.json"])
    ids = [row["native_id"] for row in rows]
    assert results == {"results": {ids[0]: 1, ids[1]: -1}}
    _, _, rows = asked("aokvqa", tmp_path / "a")
    entries = json.loads(submission("aokvqa", rows[:1], ["cat"])["aokvqa.json"])
    assert entries == {rows[0]["native_id"]: {"direct_answer": "cat"}}


def mme_rows() -> list[dict[str, str]]:
    """Return two pictures of one subtask and one of another, their questions not side by side."""
    return [
        {
            "index": str(number),
            "image_path": f"{name}.png",
            "question": f"Is it\n{number}? Please answer yes or no.",
            "answer": answer,
            "category": subtask,
        }
        for number, (name, subtask, answer) in enumerate(
            [
                ("a", "existence", "Yes"),
                ("b", "existence", "Yes"),
                ("c", "OCR", "Yes"),
                ("a", "existence", "No"),
                ("b", "existence", "No"),
                ("c", "OCR", "No"),
            ]
        )
    ]


def official_mme(folder: Path) -> float:
    """Return the points as the release's `calculation.py` counts them."""
    total = 0.0
    for file in folder.glob("*.txt"):
        lines = file.read_text().splitlines()
        pairs = [lines[first : first + 2] for first in range(0, len(lines), 2)]
        right, both = 0, 0
        for pair in pairs:
            assert len(pair) == 2
            fields = [line.split("\t") for line in pair]
            assert fields[0][0] == fields[1][0]
            hits = 0
            for _, _, gold, answer in fields:
                said, gold = answer.lower(), gold.lower()
                assert gold in ("yes", "no")
                head = said if said in ("yes", "no") else said[:4]
                found = "yes" if "yes" in head else "no" if "no" in head else "other"
                hits += found == gold
            right, both = right + hits, both + (hits == 2)
        total += 100 * right / len(lines) + 100 * both / len(pairs)
    return total


def test_mme_gets_a_file_a_subtask_with_a_pictures_questions_side_by_side(tmp_path: Path) -> None:
    _, rows = table("mme", tmp_path, mme_rows())
    answers = ["Yes", "Yes, it\tis.", "No", "no\n", "Yes", "No"]
    said = [Answer(text=answer, blind=None) for answer in answers]
    result, _ = judge("mme", rows, said, None, "shikra")
    folder = written(tmp_path, "mme", rows, answers)
    assert sorted(file.name for file in folder.iterdir()) == ["OCR.txt", "existence.txt"]
    assert (folder / "OCR.txt").read_text() == (
        "c.png\tIs it 2? Please answer yes or no.\tYes\tNo\n"
        "c.png\tIs it 5? Please answer yes or no.\tNo\tNo\n"
    )
    assert official_mme(folder) == result["model"]["total"] == 175.0
    assert score_items(folder, "mme").figures["total"] == 175.0


def test_a_limit_takes_pictures_of_mme_and_rotations_of_mmbench_whole(tmp_path: Path) -> None:
    catalog, rows = table("mme", tmp_path / "mme", mme_rows())
    for limit, expected in ((1, 2), (2, 2), (5, 4), (6, 6)):
        found = rows_for(catalog, "mme", "Bench", limit)
        assert len(found) == expected
        said = [Answer(text="Yes", blind=None) for _ in found]
        judge("mme", found, said, None, "shikra")
    rotated = [
        {**table_row("mmbench", number + turn * 1_000_000), "index": f"{number + turn * 1_000_000}"}
        for number in range(3)
        for turn in range(2)
    ]
    catalog, rows = table("mmbench", tmp_path / "mmbench", rotated)
    for limit in range(1, 7):
        found = rows_for(catalog, "mmbench", "Bench", limit)
        assert len(found) == max(2, limit // 2 * 2)
        judge("mmbench", found, [Answer(text="B", blind=None)] * len(found), None, "shikra")
    assert rows == found


def test_mmbench_gets_its_table_without_the_picture_and_with_the_answers(tmp_path: Path) -> None:
    options = {"A": "a cat", "B": 'a "dog"', "C": "", "D": ""}
    row = {
        "index": "7",
        "image_path": "a.png",
        "question": "Two\nlines?",
        "hint": "Look.",
        **options,
        "answer": "B",
        "category": "identity",
        "l2-category": "attribute",
        "split": "dev",
    }
    _, rows = table("mmbench", tmp_path, [row, row | {"index": "1000007", "hint": ""}])
    text = submission("mmbench", rows, ["B", "A.\tcat\n"])["mmbench.tsv"]
    lines = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    kept = {name: value for name, value in row.items() if value and name != "image_path"}
    assert lines == [
        kept | {"prediction": "B"},
        kept | {"index": "1000007", "hint": "", "prediction": "A.\tcat\n"},
    ]


def test_pope_gets_a_file_a_category_in_the_order_of_its_questions(tmp_path: Path) -> None:
    rows = [
        {**table_row("pope", number), "category": category, "question": f"Is there a {number}?"}
        for number, category in enumerate(["random", "popular", "random", "popular"])
    ]
    _, found = table("pope", tmp_path, rows)
    folder = written(tmp_path, "pope", found, ["yes", "no", "Yes", "No"])
    for category, numbers, answers in (
        ("random", (0, 2), ["yes", "Yes"]),
        ("popular", (1, 3), ["no", "No"]),
    ):
        lines = [json.loads(x) for x in (folder / f"{category}.jsonl").read_text().splitlines()]
        assert [line["question"] for line in lines] == [f"Is there a {n}?" for n in numbers]
        assert [line["answer"] for line in lines] == answers


def test_ocrbench_mmmu_and_mathvista_get_what_their_scripts_read(tmp_path: Path) -> None:
    _, _, rows = asked("multimodal_ocr", tmp_path / "ocr")
    first = json.loads(submission("multimodal_ocr", rows[:1], ["ACME!"])["multimodal_ocr.json"])[0]
    assert (first["predict"], first["answers"], first["dataset_name"]) == (
        "ACME!",
        ["ACME"],
        "IIIT5K",
    )
    _, _, rows = asked("mmmu", tmp_path / "mmmu")
    ids = [row["native_id"] for row in rows]
    found = json.loads(submission("mmmu", rows, ["(B) dog", "dunno"])["mmmu.json"])
    assert found == {ids[0]: "B", ids[1]: "dunno"}
    _, _, rows = asked("mathvista", tmp_path / "math")
    entry = next(
        iter(
            json.loads(
                submission("mathvista", rows[:1], ['The answer is "14".'])["mathvista.json"]
            ).values()
        )
    )
    chosen = ("response", "extraction", "prediction", "true_false")
    assert [entry[name] for name in chosen] == ['The answer is "14".', "14", "14", True]


def test_a_line_of_mme_with_a_missing_field_is_explained(tmp_path: Path) -> None:
    (tmp_path / "OCR.txt").write_text("a.png\tIs it?\tYes\n")
    with pytest.raises(DataError, match=r"line 1'?: 3 fields, expected 4"):
        read_predictions(tmp_path / "OCR.txt")
