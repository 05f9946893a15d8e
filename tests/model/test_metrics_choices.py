"""Metrics that read options and short answers: rules by example, and published totals again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from model.metrics import METRICS
from model.metrics.letters import infer, lettered
from model.metrics.mathvista import normal_form
from model.metrics.mmmu import read_choice, read_open

INPUTS = Path(__file__).parents[3] / "shared" / "facts" / "metrics_inputs"
needs_inputs = pytest.mark.skipif(not INPUTS.is_dir(), reason="published outputs are not here")
BOATS = {"A": "kayak", "B": "canoe"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B) a canoe", "B"),
        ("The boat is a canoe", "B"),
        ("It is A or B", None),
        ("A canoe floats here", "A"),
        ("b", None),
        ("Cannot determine the answer", "Z"),
        ("kayak and canoe", None),
        ("", None),
    ],
)
def test_letters_are_inferred_as_vlmevalkit_does(text: str, letter: str | None) -> None:
    assert infer(text, BOATS) == letter


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4))
def test_an_answer_names_at_most_one_option(text: str, choices: list[str]) -> None:
    assert infer(text, lettered(choices)) in {None, "Z", *lettered(choices)}


def test_circular_is_right_only_if_every_rotation_is() -> None:
    base = {"choices": BOATS, "category": "boats", "l2-category": "things"}
    turned = base | {"choices": {"A": "canoe", "B": "kayak"}}
    items = [
        base | {"index": 7, "prediction": "B", "reference": "B"},
        turned | {"index": 1_000_007, "prediction": "A", "reference": "A"},
        base | {"index": 8, "prediction": "B", "reference": "B"},
        turned | {"index": 1_000_008, "prediction": "B", "reference": "A"},
    ]
    figures = METRICS["mmbench_circular"].aggregate(items)
    assert figures == {
        "accuracy": 0.5,
        "vanilla": 1.0,
        "category/boats": 0.5,
        "l2-category/things": 0.5,
    }
    assert METRICS["mmbench_circular"].aggregate(items[::-1]) == figures
    with pytest.raises(UserError, match="rotations of question 7"):
        METRICS["mmbench_circular"].aggregate(items[1:2])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("D.", "D"),
        ("First (A) seemed right but it is (C)", "C"),
        ("The answer is B because A fails", "A"),
        ("c", None),
        ("It has to be the thing that we call a violin", "B"),
    ],
)
def test_mmmu_takes_the_option_named_last(text: str, letter: str | None) -> None:
    assert read_choice(text, {"A": "flute", "B": "Violin", "C": "drum", "D": "horn"}) == letter


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        ("So the current is 0.75 A", "0.75", 1.0),
        ("It equals 3/4", "0.75", 0.0),
        ("The genre is vanitas painting.", "Vanitas", 1.0),
        ("about 1,250 people", ["1250", "1300"], 1.0),
        ("x = 1e3", "1000", 1.0),
    ],
)
def test_mmmu_reads_open_answers(text: str, reference: object, score: float) -> None:
    assert METRICS["mmmu"].score(text, reference, question_type="open") == score


@given(st.text(max_size=60))
def test_any_open_answer_can_be_read(text: str) -> None:
    assert read_open(text)


@pytest.mark.parametrize(
    ("text", "kind", "answer_type", "form"),
    [
        ("(C)", "multi_choice", "text", "7"),
        ("about 8", "multi_choice", "text", "8"),
        ("17.9", "free_form", "integer", "17"),
        ("0.335", "free_form", "float", "0.34"),
        ("12 cm", "free_form", "float", None),
        ("[1, 2]", "free_form", "list", "[1, 2]"),
    ],
)
def test_mathvista_normal_forms(text: str, kind: str, answer_type: str, form: str | None) -> None:
    choices = ("5", "6", "7", "8") if kind == "multi_choice" else ()
    found = normal_form(
        text, question_type=kind, answer_type=answer_type, choices=choices, precision=2
    )
    assert found == form


def test_mathvista_takes_the_nearest_choice() -> None:
    choices = ("5", "6", "sixty", "seven")
    found = normal_form("six", question_type="multi_choice", answer_type="text", choices=choices)
    assert found == "sixty"


def test_ocrbench_counts() -> None:
    items = [
        {"prediction": "a cat", "reference": ["cat"], "type": "Text Recognition"},
        {"prediction": None, "reference": ["dog"], "type": "Text Recognition"},
    ]
    figures = METRICS["ocrbench"].aggregate(items)
    assert (figures["right"], figures["accuracy"], figures["right/Text Recognition"]) == (1, 0.5, 1)


def test_one_of_two_far_boxes_is_a_hit_unless_boxes_are_merged() -> None:
    far = [(0.0, 0.0, 10.0, 10.0), (90.0, 90.0, 100.0, 100.0)]
    items = [
        {"prediction": [(50.0, 0.0, 60.0, 9.0), far[1]], "reference": far, "phrase_type": ["x"]}
    ]
    figures = METRICS["flickr30k_recall"].aggregate(items)
    assert (figures["recall@1"], figures["recall@5"], figures["phrase_type/x/recall@5"]) == (
        0,
        1,
        1,
    )
    assert METRICS["flickr30k_recall"].aggregate(items, merge=True)["recall@10"] == 0
    with pytest.raises(UserError, match="without prediction"):
        METRICS["flickr30k_recall"].aggregate([items[0] | {"prediction": None}])


@needs_inputs
@pytest.mark.parametrize(("model", "guessed"), [("qwen_vl", 48), ("llava1.5_13b", 2)])
def test_mmmu_outputs_parse_as_published(model: str, guessed: int) -> None:
    rows = [
        json.loads(line)
        for line in (INPUTS / "mmmu" / f"{model}_val_outputs.jsonl").read_text().splitlines()
    ]
    official = json.loads((INPUTS / "mmmu" / f"{model}_val_predictions.json").read_text())
    gold = json.loads((INPUTS / "mmmu" / "answer_dict_val.json").read_text())
    items, expected = [], []
    for row in rows:
        kind = row["question_type"]
        options = row.get("index2ans") or {}
        items.append(
            {
                "prediction": row["response"],
                "reference": row["answer"],
                "question_type": kind,
                "choices": options,
                "subject": row["id"].removeprefix("validation_").rsplit("_", 1)[0],
            }
        )
        if kind == "multiple-choice":
            said = read_choice(row["response"], options)
            assert said in (None, official[row["id"]])
            expected.append(official[row["id"]] == gold[row["id"]]["ground_truth"])
    figures = METRICS["mmmu"].aggregate(items)
    assert figures["guessed"] == guessed
    closed = [item for item in items if item["question_type"] == "multiple-choice"]
    assert METRICS["mmmu"].aggregate(closed)["accuracy"] == sum(expected) / len(expected)


@needs_inputs
@pytest.mark.parametrize(
    ("model", "right"),
    [
        ("bard", 348),
        ("gpt4_2shot_solution_use_ocr", 321),
        ("llama_adapter_v2", 239),
        ("llava_llama_2_13b", 261),
    ],
)
def test_mathvista_extractions_score_as_published(model: str, right: int) -> None:
    problems = json.loads((INPUTS / "mathvista" / "testmini_answers.json").read_text())
    said = json.loads((INPUTS / "mathvista" / f"{model}_extractions.json").read_text())
    items = [
        problem | {"prediction": "", "reference": problem["answer"], "extraction": said[pid]}
        for pid, problem in problems.items()
    ]
    assert METRICS["mathvista"].aggregate(items)["accuracy"] * 1000 == pytest.approx(right)


@needs_inputs
def test_pope_splits_are_balanced_and_all_yes_has_the_known_figures() -> None:
    for split in ("random", "popular", "adversarial"):
        lines = (INPUTS / "pope" / f"coco_pope_{split}.json").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        items = [{"prediction": "yes", "reference": row["label"]} for row in rows]
        figures = METRICS["pope"].aggregate(items)
        assert (len(items), figures["recall"], figures["yes_ratio"]) == (3000, 1.0, 1.0)
        assert figures["precision"] == figures["accuracy"] == 0.5


def test_labels_of_pope_may_be_in_any_case() -> None:
    items = [{"prediction": "no", "reference": label} for label in ("Yes", "yes", "No", "no ")]
    figures = METRICS["pope"].aggregate(items)
    assert (figures["accuracy"], figures["recall"]) == (0.5, 0.0)
    assert [METRICS["pope"].score("no", label) for label in ("Yes", "No")] == [0.0, 1.0]


def test_a_question_of_scienceqa_without_grade_counts_in_no_grade() -> None:
    known = {"prediction": "A", "reference": 0, "choices": ["x", "y"]}
    items = [known | {"grade": None, "subject": None}, known | {"grade": "grade7", "subject": "z"}]
    figures = METRICS["scienceqa"].aggregate(items)
    assert figures == {"accuracy": 1.0, "grade/7-12": 1.0, "subject/z": 1.0}
    assert METRICS["scienceqa"].score(1, "B") == 1.0
    assert METRICS["scienceqa"].score(-1, 0) == 0.0


def test_a_picture_of_mme_that_comes_again_is_two_pairs() -> None:
    items = [
        {"prediction": said, "reference": gold, "subtask": "OCR", "image": "same"}
        for said, gold in (("Yes", "Yes"), ("No", "No"), ("Yes", "Yes"), ("Yes", "No"))
    ]
    assert METRICS["mme"].aggregate(items)["total"] == 75.0 + 50.0
    with pytest.raises(UserError, match="picture 'same': 3 questions"):
        METRICS["mme"].aggregate(items[:3])
