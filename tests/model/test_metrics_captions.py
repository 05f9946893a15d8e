"""Caption metrics: the reference package's figures, and its own code where it is installed."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from model.metrics import METRICS
from model.metrics.ptb import words

CAPTION = METRICS["caption"]
REFERENCES = [
    ["A kite flies over the harbor.", "A colorful kite in the sky above a harbor."],
    ["Two cooks prepare noodles.", "Chefs cooking noodles in a kitchen."],
    ["A red tractor in a field.", "An old red tractor plows the field."],
]
SAID = ["A kite above the harbor.", "Two cooks prepare soup.", "A tractor in a red field."]


def items(said: list[str], references: list[list[str]]) -> list[dict[str, object]]:
    return [{"prediction": p, "reference": r} for p, r in zip(said, references, strict=True)]


def test_the_figures_are_those_of_the_reference_package() -> None:
    figures = CAPTION.aggregate(items(SAID, REFERENCES))
    expected = {
        "CIDEr": 2.5102,
        "BLEU-1": 0.8731,
        "BLEU-2": 0.6903,
        "BLEU-3": 0.4627,
        "BLEU-4": 0.0001,
        "ROUGE-L": 0.7663,
    }
    assert figures == pytest.approx(expected, abs=5e-5)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), min_size=2, max_size=5))
def test_the_reference_code_gives_the_same_on_any_words(said: list[list[str]]) -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    predictions = [" ".join(text) for text in said]
    references = [["a b c d", "b c d e f"], ["a a b"], ["f e d"], ["c"], ["d e", "d e f a"]]
    references = references[: len(said)]
    true, mine = dict(enumerate(references)), {n: [text] for n, text in enumerate(predictions)}
    figures = CAPTION.aggregate(items(predictions, references))
    assert figures["CIDEr"] == pytest.approx(Cider().compute_score(true, mine)[0])
    assert figures["ROUGE-L"] == pytest.approx(Rouge().compute_score(true, mine)[0])
    scores, _ = bleu.Bleu(4).compute_score(true, mine, verbose=0)
    assert [figures[f"BLEU-{n}"] for n in range(1, 5)] == pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man isn't (yet) there.", "a man is n't -lrb- yet -rrb- there"),
        ("Half a 1,000-mile road: 50%!", "half a 1,000-mile road 50 %"),
        ('The girls\' dog says "hi" at 10:30am', "the girls dog says hi at 10:30 am"),
        ("Mr. Smith's U.S. t-shirt -- old...", "mr. smith 's u.s. t-shirt old"),
        ("cannot, gonna; rock'n'roll & black/white", "can not gon na rock 'n' roll & black/white"),
    ],
)
def test_captions_split_as_the_treebank_does(caption: str, expected: str) -> None:
    assert " ".join(words(caption)) == expected


def test_words_are_those_of_the_official_tokeniser() -> None:
    module = pytest.importorskip(
        "pycocoevalcap.tokenizer.ptbtokenizer", reason="pycocoevalcap is not installed"
    )
    if shutil.which("java") is None:
        pytest.skip("no Java here")
    captions = [text for texts in REFERENCES for text in texts] + SAID
    captions += ["It's a 3-year-old's 2nd car, isn't it?", "Jan. 5th, $5.00 & 100 % cotton (new)"]
    found = module.PTBTokenizer().tokenize({n: [{"caption": t}] for n, t in enumerate(captions)})
    assert [" ".join(words(text)) for text in captions] == [found[n][0] for n in found]


def test_meteor_is_what_its_own_program_says() -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed")
    if shutil.which("java") is None:
        pytest.skip("no Java here")
    assert CAPTION.aggregate(items(SAID, REFERENCES), meteor=True)["METEOR"] == pytest.approx(
        0.3748, abs=5e-5
    )


def test_meteor_asks_for_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="METEOR needs Java"):
        CAPTION.aggregate(items(SAID, REFERENCES), meteor=True)
