"""A catalog of two tiny sources with a tokenizer beside it, shared by the tests of the plan's road."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

Recipe = Callable[..., Mixture]
Build = Callable[..., Plan]


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `catalog` (40 VQAv2 questions on 20 pictures, 50 Alpaca tasks) and `tok`."""
    folder = tmp_path_factory.mktemp("road")
    ingest(
        Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=40)), folder / "catalog"
    )
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 50)), folder / "catalog")
    make_tokenizer(folder / "tok")
    return folder


@pytest.fixture(scope="session")
def recipe(road: Path) -> Recipe:
    """Make a small recipe, some fields changed."""

    def make(**changes: Any) -> Mixture:
        values = {
            "name": "try",
            "unit": "all_tokens",
            "budget": {"epochs": 1},
            "sources": [{"source": "vqav2", "weight": 2}, {"source": "alpaca", "weight": 1}],
            "encoder": {"tokenizer": "tok"},
            "image": {"kind": "resize", "size": 64, "tokens": 16},
            "packing": {"tokens": 256, "packs_per_step": 4, "window": 32},
        } | changes
        return Mixture.model_validate(values, context={"folder": road})

    return make


@pytest.fixture(scope="session")
def built(road: Path, recipe: Recipe) -> Build:
    """Build and commit the plan of a small recipe, some fields changed."""

    def build(**changes: Any) -> Plan:
        return Plan.build(Catalog.open(road / "catalog"), recipe(**changes))

    return build
