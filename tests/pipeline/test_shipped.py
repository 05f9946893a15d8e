"""Shipped recipes load, and say with numbers what a catalog lacks for them."""

from pathlib import Path

import pytest

from catalog import Catalog
from catalog.errors import UserError
from pipeline.mixture import Mixture
from pipeline.shipped import find_recipe, shipped

NAMES = (
    "internvl-1.5-pretrain",
    "minicpm-llama3-v-2.5-part1",
    "minicpm-llama3-v-2.5-part2",
    "more-long-text-vqa-ocr",
)


def test_the_published_recipes_are_shipped() -> None:
    assert tuple(shipped()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_valid_and_explains_what_is_missing(name: str, road: Path) -> None:
    file = find_recipe(name, tokenizer=road / "tok")
    mixture = Mixture.load(file, tokenizer=road / "tok")
    assert mixture.name == name
    assert mixture.encoder.tokenizer == road / "tok"
    held = [1000] * len(mixture.sources)
    assert mixture.shares(held).sum() == pytest.approx(1)
    wanted = {source for share in mixture.sources for source in share.sources}
    missing = wanted - {"vqav2", "alpaca"}
    with pytest.raises(
        UserError, match=rf"lacks {len(missing)} of {len(wanted)} sources, in entries of [\d.]+% of"
    ):
        mixture.members(Catalog.open(road / "catalog"))


def test_internvls_shares_are_the_papers() -> None:
    mixture = Mixture.load(shipped()["internvl-1.5-pretrain"])
    assert mixture.shares([1] * 4) == pytest.approx([0.539, 0.052, 0.320, 0.089], abs=1e-9)


def test_a_wrong_name_and_a_missing_tokenizer_are_explained() -> None:
    with pytest.raises(UserError, match=r"did you mean 'internvl-1.5-pretrain'"):
        find_recipe("internvl-pretrain")
    with pytest.raises(UserError, match="add --tokenizer DIR"):
        find_recipe("more-long-text-vqa-ocr")
