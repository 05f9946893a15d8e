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
from pipeline.plan import Plan
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


RECIPE = """\
name: x
budget: {epochs: 1}
sources:
  - {source: vqav2, weight: 2}
  - source: alpaca
    weight: 1
encoder: {tokenizer: tok}
packing: {tokens: 256}
"""


def loaded(folder: Path, old: str, new: str) -> Mixture:
    """Load the recipe with one place changed."""
    assert old in RECIPE
    (folder / "recipe.yaml").write_text(RECIPE.replace(old, new))
    return Mixture.load(folder / "recipe.yaml")


@pytest.mark.parametrize(
    ("old", "new", "problem", "fix"),
    [
        (
            "weight: 1\n",
            "weight: 1\n    prompts: hi\n",
            "line 7, field sources.1.prompts: is the text 'hi', and wants a list",
            "write `prompts: [hi]`, or a line `- …` for each",
        ),
        (
            "tok}",
            "tok, prompts: hi}",
            "line 7, field encoder.prompts: is the text 'hi', and wants names with values",
            "write `prompts: {NAME: …}`, or a line for each",
        ),
        (
            "tok}",
            "tok, prompts: {ocr: hi}}",
            "line 7, field encoder.prompts.ocr: is the text 'hi', and wants a list",
            "write `ocr: [hi]`, or a line `- …` for each",
        ),
        (
            "weight: 1\n",
            "weight: 1\n    prompts: [' ']\n",
            "line 7, field sources.1.prompts: give one text or more, none of them blank",
            "correct this field",
        ),
        (
            "    weight: 1",
            "    wieght: 1",
            "line 6, field sources.1.wieght: no such field",
            "did you mean 'weight'? it takes source, family, group",
        ),
        (
            "{epochs: 1}",
            "{epoch: 1}",
            "line 2, field budget.epoch: no such field",
            "did you mean 'epochs'? it takes samples, tokens, epochs",
        ),
        (
            "weight: 2",
            "weight: -2",
            "line 4, field sources.0.weight: is -2, and wants more than 0",
            "write a number of more than 0",
        ),
        (
            "weight: 2",
            "weight: much",
            "line 4, field sources.0.weight: is the text 'much', and wants a number",
            "write a number",
        ),
        (
            RECIPE[RECIPE.index("sources") : RECIPE.index("encoder")],
            "",
            "line 1, field sources: is missing",
            "add `sources: …`",
        ),
        (
            RECIPE[RECIPE.index("sources") : RECIPE.index("encoder")],
            "sources: []\n",
            "line 3, field sources: has 0 entries, and wants at least 1",
            "add to the list",
        ),
        (
            RECIPE[RECIPE.index("sources") : RECIPE.index("encoder")],
            "sources: {vqav2: 2}\n",
            "line 3, field sources: is names with values, and wants a list",
            "write `sources: […]`, or a line `- …` for each",
        ),
        (
            "{source: vqav2, weight: 2}",
            "vqav2",
            "line 4, field sources.0: is the text 'vqav2', and wants names with values",
            "write `- {source: …}`, or a line for each",
        ),
        (
            "name: x",
            "name: x\nunit: sample",
            "line 2, field unit: is the text 'sample', and wants one of samples, images,",
            "did you mean 'samples'? write one of these",
        ),
        (
            "tokens: 256",
            "tokens: 2.5",
            "line 8, field packing.tokens: is the number 2.5, and wants a whole number",
            "write a whole number",
        ),
        (
            "tokens: 256",
            "tokens: 256, tiles: yes",
            "line 8, field packing.tiles: is true, and wants a whole number",
            "write a whole number",
        ),
        (
            "weight: 2",
            "weight: no",
            "line 4, field sources.0.weight: is false, and wants a number",
            "write a number",
        ),
        (
            "name: x",
            "name: 7",
            "line 1, field name: is the number 7, and wants text",
            "write text, such as '7'",
        ),
        (
            "name: x",
            "name: x\nname: y",
            "line 2: 'name' stands twice here, and only the last would count",
            "keep one of them",
        ),
        (
            RECIPE,
            "- vqav2\n",
            "line 1, field (the whole file): is a list, and wants names with values",
            "write name: …, budget: …, sources: …, encoder: …, packing: …",
        ),
    ],
)
def test_a_mistake_in_a_recipe_says_where_it_stands_and_what_to_write(
    tmp_path: Path, old: str, new: str, problem: str, fix: str
) -> None:
    with pytest.raises(UserError) as error:
        loaded(tmp_path, old, new)
    assert error.value.problem.startswith(f"{tmp_path / 'recipe.yaml'}, {problem}")
    assert "\n" not in error.value.problem, "what follows from a mistake is no other mistake"
    assert error.value.fix.startswith(fix)


def test_each_of_several_mistakes_has_its_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        loaded(tmp_path, "weight: 2", "weight: -2, where: 5")
    assert [line.partition(", ")[2] for line in error.value.problem.splitlines()] == [
        "line 4, field sources.0.weight: is -2, and wants more than 0",
        "line 4, field sources.0.where: is the number 5, and wants text",
    ]
    assert error.value.fix == (
        "sources.0.weight: write a number of more than 0\nsources.0.where: write text, such as '5'"
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("source: alpaca", "source: alpacca", "line 5, field sources.1.source: the catalog has no"),
        (
            "source: alpaca",
            "group: talk\n    sources: [alpaca, belle]",
            "line 6, field sources.1.sources.1: the catalog has no belle",
        ),
        ("source: alpaca", "family: ocr", "line 5, field sources.1.family: the catalog has no"),
        (
            "source: alpaca",
            "family: vqa",
            "line 5, field sources.1: vqav2 stands in two entries",
        ),
    ],
)
def test_what_a_catalog_lacks_is_named_where_the_recipe_has_it(
    road: Path, tmp_path: Path, old: str, new: str, problem: str
) -> None:
    mixture = loaded(tmp_path, old, new)
    with pytest.raises(UserError) as error:
        mixture.members(Catalog.open(road / "catalog"))
    assert error.value.problem.startswith(f"{tmp_path / 'recipe.yaml'}, {problem}")


def test_a_misspelt_source_has_its_nearest_name(road: Path, tmp_path: Path) -> None:
    mixture = loaded(tmp_path, "source: alpaca", "source: alpacca")
    with pytest.raises(UserError, match="did you mean 'alpaca' instead of 'alpacca'"):
        mixture.members(Catalog.open(road / "catalog"))
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(UserError, match=r"recipe\.yaml: the catalog has no alpacca"):
        mixture.members(Catalog.open(road / "catalog"))


def test_a_where_that_leaves_nothing_is_named_with_its_line(road: Path, tmp_path: Path) -> None:
    small = "image: {size: 32, tokens: 4}\n"
    text = RECIPE.replace("tokenizer: tok", f"tokenizer: {road / 'tok'}") + small
    text = text.replace("    weight: 1\n", "    weight: 1\n    where: split = 'nowhere'\n")
    (tmp_path / "recipe.yaml").write_text(text)
    mixture = Mixture.load(tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match=r"line 5, field sources\.1: alpaca has no sample where"):
        Plan.build(Catalog.open(road / "catalog"), mixture)
    (tmp_path / "recipe.yaml").write_text(text.replace("split =", "spilt ="))
    mixture = Mixture.load(tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match=r"line 7, field sources\.1\.where: alpaca: `where: spilt"):
        Plan.build(Catalog.open(road / "catalog"), mixture)


def test_a_file_whose_aliases_hold_themselves_is_told_as_any_other(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for text in ("name: &a {b: *a}\n", "name: x\nsources: &a [*a]\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"recipe.yaml, line \d, field packing: is missing"):
            Mixture.load(file)


def test_a_file_of_aliases_of_aliases_is_read_in_no_time(tmp_path: Path) -> None:
    # Written out, it would have ten times as many names a line: 10 ** 30.
    lines = ["k0: &k0 [x]"] + [
        f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]" for n in range(1, 30)
    ]
    file = tmp_path / "recipe.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="no such field"):
        Mixture.load(file)
