"""Metrics of answers in words: what the official scripts print, and what holds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from model.metrics import METRICS
from model.metrics.gqa import clean
from model.metrics.pope import says_yes

WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


def refs(**counts: int) -> list[str]:
    """Return each name so many times, `_` read as a blank."""
    return [name.replace("_", " ") for name, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("metric", "prediction", "reference", "score"),
    [
        ("vqa_accuracy", "The umbrella.", refs(umbrella=7, parasol=3), 1.0),
        ("vqa_accuracy", "two dogs", ["2 dogs"] * 2 + ["3 dogs"] * 8, 0.6),
        ("vqa_accuracy", "Blue", refs(blue=10), 0.0),
        ("vqa_accuracy", "2,500", ["2500"] * 9 + ["2 500"], 1.0),
        ("vqa_accuracy", "none", ["0"] * 3 + ["many"] * 7, 0.9),
        ("vqa_accuracy", "isnt it", ["isn't it"] * 5 + ["is it"] * 5, 1.0),
        ("textvqa_accuracy", "Wendy's", ["wendy's"] * 5 + ["wendys"] * 5, 1.0),
        ("textvqa_accuracy", "Blue", refs(blue=10), 1.0),
        ("textvqa_accuracy", "Seven, Up", ["7 up"] * 6 + ["7up"] * 4, 1.0),
        ("textvqa_accuracy", "exit 5?", ["exit 5"] * 2 + ["exit"] * 8, 0.6),
        ("aokvqa_direct", "kayaking", refs(kayaking=4, rowing=2, boating=4), 1.0),
        ("aokvqa_direct", "rowing", refs(kayaking=4, rowing=2, boating=4), 2 / 3),
        ("aokvqa_direct", "Rowing", refs(kayaking=4, rowing=2, boating=4), 0.0),
        ("anls", "Acme Corporation", ["acme corp.", "ACME Corporation"], 1.0),
        ("anls", "Acme Corp", ["acme corporation"], 0.5625),
        ("anls", "Q4", ["Q3"], 0.5),
        ("anls", "The total is $45", ["$45"], 0.0),
        ("anls", "", [""], 1.0),
        ("chartqa_relaxed", "0.48", "50%", 1.0),
        ("chartqa_relaxed", "48", "50%", 0.0),
        ("chartqa_relaxed", "47.5%", "50%", 0.0),
        ("chartqa_relaxed", "1,940", "1940", 0.0),
        ("chartqa_relaxed", "2019", "2021", 1.0),
        ("chartqa_relaxed", "Asia.", "asia", 0.0),
        ("chartqa_relaxed", "209", "220", 1.0),
        ("chartqa_relaxed", "0.0", "0", 0.0),
        ("ocrvqa", "the coffee", "coffee", 0.0),
        ("ocrvqa", " Coffee\n", "coffee", 1.0),
        ("exact_match", "two", ["2"], 0.0),
        ("scienceqa", "B", 1, 1.0),
        ("scienceqa", "B. mitosis", 1, 1.0),
        ("scienceqa", "The answer is B", 1, 0.0),
        ("scienceqa", "The answer is B.", "B", 1.0),
        ("scienceqa", "(B)", 1, 0.0),
        ("scienceqa", "b", 1, 0.0),
        ("gqa", "Wooden.", "wooden", 1.0),
        ("gqa", " wooden", "wooden", 0.0),
        ("pope", "No, none", "no", 1.0),
        ("mme", "It is yes", "Yes", 0.0),
        ("mme", "Yes!", "Yes", 1.0),
        ("mme", "Not really", "No", 1.0),
        ("mme", "n", "No", 0.0),
        ("ai2d", "B", "B", 1.0),
        ("ai2d", "B)", 1, 1.0),
        ("ai2d", "B) sun", 1, 0.0),
        ("ai2d", " B. sun", 1, 1.0),
        ("ai2d", "The answer is B", 1, 0.0),
        ("realworldqa", "Four", "4", 1.0),
        ("realworldqa", "four.", "4", 0.0),
        ("realworldqa", "4.", "4", 1.0),
        ("ocrbench", 'The word is "Exit".', ["exit"], 1.0),
        ("ocrbench", "concatenate", "cat", 1.0),
        ("caption", "a dog", ["A dog."], 1.0),
    ],
)
def test_what_the_official_script_gives(
    metric: str, prediction: str, reference: object, score: float
) -> None:
    assert METRICS[metric].score(prediction, reference) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "prediction", "reference", "option", "score"),
    [
        ("vqa_accuracy", "Blue", refs(blue=10), {"always_normalise": True}, 1.0),
        ("anls", "Q4", ["Q3"], {"zero_at_half": True}, 0.0),
        ("ocrvqa", "the coffee", "coffee", {"evalai_form": True}, 1.0),
        ("ocrvqa", "two", "2", {"evalai_form": True}, 1.0),
        ("chartqa_relaxed", "209", "220", {"swapped": True}, 0.0),
        ("chartqa_relaxed", "231.5", "220", {"swapped": True}, 1.0),
        ("gqa", "It is a wooden table", "wooden table", {"cleaning": "qwen-vl"}, 1.0),
        ("gqa", " Wooden!", "wooden", {"cleaning": "lmms-eval"}, 1.0),
        ("aokvqa_choice", "boat", 1, {"choices": ("kayak", "boat")}, 1.0),
        ("scienceqa", "D", 3, {"choices": ("x", "y", "z")}, 0.0),
        ("ai2d", "sun", 1, {"choices": ("moon", "Sun"), "rule": "qwen-vl"}, 1.0),
        ("ai2d", "Answer: B", 1, {"choices": ("x", "y"), "rule": "vlmevalkit"}, 1.0),
        ("ocrbench", "$a+B$", "a + B", {"dataset_name": "HME100k"}, 1.0),
        ("ocrbench", "$a+B$", "a + b", {"dataset_name": "HME100k"}, 0.0),
        ("realworldqa", "Right", "B", {"question": "Which?\nA. Left\nB. Right"}, 1.0),
    ],
)
def test_variants_are_options_that_give_what_their_authors_print(
    metric: str, prediction: str, reference: object, option: dict[str, object], score: float
) -> None:
    assert METRICS[metric].score(prediction, reference, **option) == score
    items = [{"prediction": prediction, "reference": reference, **option}]
    chosen = {key: value for key, value in option.items() if key in METRICS[metric].options}
    assert METRICS[metric].aggregate(items, **chosen)[
        "accuracy" if metric != "anls" else "anls"
    ] == (score)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Wooden.", "wooden"),
        ("It is a wooden table", "wooden table"),
        ("The Cat of the house", "cat"),
        ("panda bear", "bear"),
    ],
)
def test_gqa_answers_as_qwen_cleans_them(text: str, cleaned: str) -> None:
    assert clean(text, "qwen-vl") == cleaned


@pytest.mark.parametrize("text", ["NO", "no!", "no\n", "isn't", "Nothing here", "", "Yes, a cup"])
def test_pope_takes_all_for_yes_that_has_no_plain_no(text: str) -> None:
    assert says_yes(text)


@given(
    WORDS,
    st.sampled_from(["vqa_accuracy", "okvqa_accuracy", "vizwiz_accuracy", "textvqa_accuracy"]),
)
def test_what_all_ten_said_scores_one(text: str, metric: str) -> None:
    assert METRICS[metric].score(text, [text] * 10) == pytest.approx(1.0)


@given(WORDS, st.sampled_from(["anls", "ocrvqa", "exact_match", "chartqa_relaxed"]))
def test_a_reference_scores_one_against_itself(text: str, metric: str) -> None:
    assert METRICS[metric].score(text, [text]) == 1.0


@given(WORDS, st.lists(WORDS, min_size=10, max_size=10))
def test_scores_are_fractions_and_the_order_of_references_is_no_matter(
    text: str, references: list[str]
) -> None:
    for metric in ("vqa_accuracy", "textvqa_accuracy", "aokvqa_direct", "anls", "ocrvqa"):
        score = METRICS[metric].score(text, references)
        assert 0.0 <= score <= 1.0 + 1e-12
        assert METRICS[metric].score(text, references[::-1]) == pytest.approx(score)


@given(st.integers(0, 10))
def test_leaving_one_out_gives_tenths_by_threes(matches: int) -> None:
    score = METRICS["vqa_accuracy"].score("a1", ["a1"] * matches + ["b1"] * (10 - matches))
    assert score == pytest.approx(min(1.0, 0.3 * matches))


def test_a_set_is_the_mean_of_its_items_and_of_its_groups() -> None:
    items = [
        {"prediction": "yes", "reference": ["yes"] * 10, "answer_type": "yes/no"},
        {"prediction": "no", "reference": ["yes"] * 10, "answer_type": "yes/no"},
        {"prediction": "red", "reference": ["red"] * 10, "answer_type": "other"},
        {"prediction": None, "reference": ["red"] * 10},
    ]
    figures = METRICS["vqa_accuracy"].aggregate(items)
    assert figures == {
        "accuracy": pytest.approx(0.5),
        "answer_type/other": pytest.approx(1.0),
        "answer_type/yes/no": pytest.approx(0.5),
        "missing": 1.0,
    }


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_says_what_it_takes_and_refuses_bad_items(metric: str) -> None:
    found = METRICS[metric]
    assert found.name == metric
    assert found.title
    assert all(text for text in (*found.extras.values(), *found.options.values()))
    with pytest.raises(UserError, match="give each item `prediction`"):
        found.aggregate([{"reference": "x", "subtask": "OCR"}])
    if metric != "mme":
        with pytest.raises(UserError, match="no items to score"):
            found.aggregate([])


def test_difficult_direct_answers_are_left_out() -> None:
    items = [
        {"prediction": "a", "reference": ["a"] * 10},
        {"prediction": "b", "reference": ["a"] * 10, "difficult_direct_answer": True},
    ]
    assert METRICS["aokvqa_direct"].aggregate(items) == {"accuracy": 1.0}


def test_pope_figures_are_those_of_the_confusion_table() -> None:
    answers = [("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "yes"), ("yes", "yes")]
    items = [
        {"prediction": found, "reference": wanted, "category": "random"}
        for found, wanted in answers
    ]
    figures = METRICS["pope"].aggregate(items)
    assert figures["accuracy"] == 0.6
    assert figures["precision"] == figures["recall"] == figures["f1"] == pytest.approx(2 / 3)
    assert figures["yes_ratio"] == 0.6
    assert figures["mean_f1"] == figures["category/random/f1"] == figures["f1"]


def test_mme_always_yes_scores_500_and_200() -> None:
    from model.metrics.mme import COGNITION, PERCEPTION

    items = [
        {"prediction": "Yes", "reference": gold, "subtask": subtask}
        for subtask in (*PERCEPTION, *COGNITION)
        for _ in range(3)
        for gold in ("Yes", "No")
    ]
    figures = METRICS["mme"].aggregate(items)
    assert (figures["perception"], figures["cognition"], figures["total"]) == (500, 200, 700)
    assert METRICS["mme"].aggregate([{**item, "prediction": item["reference"]} for item in items])[
        "total"
    ] == pytest.approx(2800)
    with pytest.raises(UserError, match="1 questions, expected 2"):
        METRICS["mme"].aggregate(items[:1])
    with pytest.raises(UserError, match="no subtask 'hats'"):
        METRICS["mme"].aggregate([{**items[0], "subtask": "hats"}])


def test_scienceqa_groups_overlap_as_in_the_official_table() -> None:
    base = {"reference": 0, "choices": ("a", "b"), "subject": "natural science", "grade": "grade7"}
    items = [
        {**base, "prediction": "A", "hint": "h", "has_image": True},
        {**base, "prediction": "B", "hint": "", "has_image": True, "grade": "grade6"},
        {**base, "prediction": "A", "hint": "", "has_image": False, "subject": "language science"},
    ]
    figures = METRICS["scienceqa"].aggregate(items)
    assert figures["context/IMG"] == 0.5
    assert figures["context/TXT"] == figures["context/NO"] == 1.0
    assert figures["subject/NAT"] == 0.5
    assert figures["grade/1-6"] == 0.0


def test_gqa_types_and_the_distance_of_distributions() -> None:
    base = {"group": "color", "question": "What color is it?", "semantic": "attr"}
    program = [
        {"operation": "select", "argument": "cat"},
        {"operation": "query", "argument": "name"},
    ]
    items = [
        {**base, "prediction": "Red.", "reference": "red", "structural": "query"},
        {**base, "prediction": "red", "reference": "blue", "structural": "query"},
        {**base, "prediction": "yes", "reference": "yes", "structural": "verify", "group": None}
        | {"program": program},
        {**base, "prediction": "x", "reference": "y", "is_balanced": False},
    ]
    figures = METRICS["gqa"].aggregate(items)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert (figures["kind/open"], figures["kind/binary"], figures["steps/1"]) == (0.5, 1.0, 1.0)
    # Red: (2 - 1)^2 / 1; blue: (0 - 1)^2 / 1.
    assert figures["distribution"] == pytest.approx(2 / 100)
    assert figures["words/4"] == figures["accuracy"]
