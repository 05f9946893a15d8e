"""The plan: shares are exact, caps hold, nothing is lost or doubled, same inputs give the same plan."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from pipeline.plan import Plan
from pipeline.preflight import preflight
from tests.pipeline.conftest import Build


def test_the_same_inputs_give_the_same_plan_and_no_second_commit(built: Build, road: Path) -> None:
    first = built()
    logs = sorted((road / "catalog" / "plans" / "_delta_log").glob("*.json"))
    assert built().id == first.id
    assert sorted((road / "catalog" / "plans" / "_delta_log").glob("*.json")) == logs
    assert built(seed=7).id != first.id


@pytest.mark.parametrize("unit", ["samples", "text_tokens", "all_tokens", "loss_tokens"])
def test_shares_are_met_in_the_unit_asked_for(built: Build, unit: str) -> None:
    for entry in built(unit=unit).header["entries"]:
        assert entry["realised"][unit] == pytest.approx(entry["requested"], abs=0.02)


def test_every_draw_is_in_the_plan_once_and_fits(built: Build) -> None:
    plan = built()
    seen = []
    for number in range(plan.steps):
        step = plan.step(number)
        assert len(step.packs) == 4
        for packed in step.packs:
            assert packed.tokens <= 256
            seen += list(zip(packed.parts.tolist(), packed.rows.tolist(), strict=True))
    assert len(seen) == sum(entry["draws"] for entry in plan.header["entries"])
    assert len(set(seen)) == len(seen), "one epoch sees no sample twice"


def test_a_plan_opens_by_the_beginning_of_its_id(built: Build, road: Path) -> None:
    plan = built()
    assert Plan.open(road / "catalog", plan.id[:12]).id == plan.id
    assert Plan.open(plan.file.parent).id == plan.id
    assert preflight(plan).renderables
    with pytest.raises(UserError, match="0 plans named nothing"):
        Plan.open(road / "catalog", "nothing")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.floats(1, 3))
def test_caps_are_never_passed(built: Build, weight: int, most: float) -> None:
    sources = [
        {"source": "vqav2", "weight": weight, "max_epochs": most},
        {"source": "alpaca", "weight": 1, "max_epochs": 1},
    ]
    for entry in built(sources=sources, budget={"epochs": 9}).header["entries"]:
        assert entry["epochs"] <= (most if entry["name"] == "vqav2" else 1) + 1e-9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"budget": {"samples": 900}},
            r"epochs wanted, max_epochs is 1(.|\n)*Fix: take [\d.]+% of",
        ),
        ({"sources": [{"source": "vqa2", "weight": 1}]}, "did you mean 'vqav2'"),
        (
            {"sources": [{"source": "vqav2", "weight": 1, "where": "split = 'none'"}]},
            "no sample where",
        ),
        (
            {"sources": [{"source": "vqav2", "weight": 1, "where": "splt = 'x'"}]},
            "SQL over the columns",
        ),
        ({"packing": {"tokens": 16}}, "are longer than 16 tokens"),
        ({"unit": "images"}, "alpaca holds no images"),
    ],
)
def test_an_infeasible_recipe_is_explained_with_numbers(
    built: Build, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        built(**changes)
