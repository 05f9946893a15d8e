"""Recipes: a mistake is explained where it stands, shares follow from weights and temperature."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog import Catalog
from catalog.errors import UserError
from pipeline.mixture import Mixture
from tests.pipeline.conftest import Recipe

WEIGHTS = [{"source": "vqav2", "weight": 4}, {"source": "alpaca", "weight": 1}]


@settings(deadline=None)
@given(st.floats(0.5, 8), st.lists(st.integers(1, 10**9), min_size=2, max_size=2))
def test_shares_sum_to_one_and_temperature_evens_them(
    recipe: Recipe, temperature: float, held: list[int]
) -> None:
    plain = recipe(sources=WEIGHTS).shares(held)
    assert plain.tolist() == pytest.approx([0.8, 0.2])
    warm = recipe(sources=WEIGHTS, temperature=temperature).shares(held)
    assert warm.sum() == pytest.approx(1)
    assert warm[0] / warm[1] == pytest.approx(4 ** (1 / temperature))
    unweighed = recipe(sources=[{"source": "vqav2"}, {"source": "alpaca"}]).shares(held)
    assert unweighed[0] == pytest.approx(held[0] / sum(held), abs=1e-9)


def test_caps_default_to_the_budgets_epochs(recipe: Recipe) -> None:
    sources = [{"source": "vqav2", "weight": 1, "max_epochs": 4}, {"source": "alpaca", "weight": 1}]
    assert recipe(sources=sources, budget={"samples": 9}).caps().tolist() == [4, 1]
    assert recipe(sources=sources, budget={"epochs": 3}).caps().tolist() == [3, 3]


def test_a_family_stands_for_its_sources(recipe: Recipe, road: Path) -> None:
    mixture = recipe(sources=[{"family": "vqa", "weight": 1}, {"family": "text", "weight": 1}])
    assert sorted(mixture.named(Catalog.open(road / "catalog"))) == ["alpaca", "vqav2"]
    twice = recipe(sources=[{"family": "vqa", "weight": 1}, {"source": "vqav2", "weight": 1}])
    with pytest.raises(UserError, match="vqav2 stands in two entries"):
        twice.named(Catalog.open(road / "catalog"))


def test_prompts_of_an_entry_are_its_sources_and_survive_the_plans_header(recipe: Recipe) -> None:
    mixture = recipe(
        sources=[
            {"group": "captions", "sources": ["coco", "laion"], "prompts": ["Look.", "See."]},
            {"source": "vqav2"},
        ],
        encoder={"tokenizer": "tok", "prompts": {"ocr": ["Read."]}},
    )
    own = ("Look.", "See.")
    assert mixture.encoder.prompts == {"ocr": ("Read.",), "coco": own, "laion": own}
    again = Mixture.model_validate(json.loads(mixture.model_dump_json()))
    assert again.encoder.prompts == mixture.encoder.prompts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"samples": 5, "epochs": 1}}, "exactly one of"),
        ({"sources": [*WEIGHTS, {"family": "ocr"}]}, "family:ocr has no weight"),
        ({"sources": [*WEIGHTS, WEIGHTS[0]]}, "vqav2 listed twice"),
        ({"sources": [{"source": "vqav2", "family": "vqa"}]}, "either `source` or `family`"),
        ({"encoder": {"tokenizer": "tok", "boxes": "kosmos"}}, "one of pix2seq"),
        ({"packing": {"tokens": 256, "overlong": "split"}}, "'drop' or 'truncate'"),
        ({"sources": [{"family": "vqa", "prompts": ["Look."]}]}, "`prompts` of a family"),
        ({"sources": [{"source": "vqav2", "prompts": [" "]}]}, "none of them blank"),
        (
            {
                "sources": [{"source": "vqav2", "prompts": ["Look."]}],
                "encoder": {"tokenizer": "tok", "prompts": {"vqav2": ["See."]}},
            },
            "vqav2 has other prompts in `encoder`",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    recipe: Recipe, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_a_typo_in_a_recipe_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("name: x\nunit: words\nbudget: {epochs: 1}\nsources: []\n")
    with pytest.raises(
        UserError, match=r"recipe\.yaml, line 2, field unit: Input should be 'samples'"
    ):
        Mixture.load(file)
