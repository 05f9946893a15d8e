"""The remainder of a run: the steps before stay, nothing of the rest is lost or doubled."""

import shutil
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from catalog import Catalog
from catalog.errors import UserError
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.plan_diff import diff, report
from pipeline.replan import replan
from pipeline.trace import samples_of
from tests.official import write_alpaca, write_vqav2
from tests.pipeline.conftest import Build, Recipe

K = 2


def seen(plan: Plan, catalog: Path, steps: range) -> Counter[tuple[str, str]]:
    """Return how often the steps see each sample."""
    return Counter(
        (row["source"], row["native_id"])
        for number in steps
        for row in samples_of(plan, catalog, number)
    )


def steps_before(plan: Plan, count: int) -> list[dict[str, Any]]:
    """Return the first steps of a plan as rows, with the files' names in place of their numbers."""
    rows = plan.table.slice(0, count * plan.packs_per_step).to_pylist()
    parts = plan.header["parts"]
    return [row | {"parts": [parts[part] for part in row["parts"]]} for row in rows]


@pytest.mark.parametrize(
    "sources",
    [
        [{"source": "vqav2", "weight": 2}, {"source": "alpaca", "weight": 1}],
        [{"source": "vqav2", "weight": 1}, {"source": "alpaca", "weight": 3}],
        [{"source": "alpaca"}],
    ],
)
@pytest.mark.parametrize("epochs", [1, 2.5])
def test_other_weights_go_on_where_the_plan_was(
    built: Build, recipe: Recipe, road: Path, sources: list[dict[str, Any]], epochs: float
) -> None:
    budget = {"epochs": epochs}
    old = built(budget=budget)
    new = replan(Catalog.open(road / "catalog"), recipe(sources=sources, budget=budget), old, K)
    assert steps_before(new, K) == steps_before(old, K)
    assert (
        replan(Catalog.open(road / "catalog"), recipe(sources=sources, budget=budget), old, K).id
        == new.id
    )
    times = seen(new, road / "catalog", range(new.steps))
    held = {"vqav2": 40, "alpaca": 50}
    for source in {entry["source"] for entry in sources}:
        mine = [times.get(key, 0) for key in times if key[0] == source]
        mine += [0] * (held[source] - len(mine))
        assert max(mine) <= ceil(epochs)
        assert sum(mine) <= epochs * held[source]
    full = [
        s for s in held if sum(times[key] for key in times if key[0] == s) >= epochs * held[s] - 1
    ]
    assert full, "the run ends when the first source reaches its cap"
    found = diff(old, new)
    assert found.first_step is None or found.first_step >= K
    assert report(found).renderables


def test_a_budget_counts_what_was_spent(built: Build, recipe: Recipe, road: Path) -> None:
    old = built(budget={"samples": 60}, unit="samples")
    mixture = recipe(
        budget={"samples": 70},
        unit="samples",
        sources=[
            {"source": "vqav2", "weight": 1, "max_epochs": 2},
            {"source": "alpaca", "weight": 1, "max_epochs": 2},
        ],
    )
    new = replan(Catalog.open(road / "catalog"), mixture, old, K)
    assert seen(new, road / "catalog", range(new.steps)).total() == 70
    short = recipe(budget={"samples": 89}, unit="samples", sources=[{"source": "vqav2"}])
    with pytest.raises(UserError, match=r"vqav2: [12].\d+ epochs wanted, max_epochs is 1"):
        replan(Catalog.open(road / "catalog"), short, old, K)


def test_changed_data_are_known_by_their_samples(
    recipe: Recipe, road: Path, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    write_vqav2(tmp_path / "vqav2", questions=40)
    ingest(Job(source="vqav2", root=tmp_path / "vqav2"), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca", 50)), catalog)
    shutil.copytree(road / "tok", tmp_path / "tok")
    old = Plan.build(Catalog.open(catalog), recipe())
    write_vqav2(tmp_path / "vqav2", questions=56)
    ingest(Job(source="vqav2", root=tmp_path / "vqav2"), catalog)
    new = replan(Catalog.open(catalog), recipe(), old, K)
    assert steps_before(new, K) == steps_before(old, K)
    before = seen(old, catalog, range(K))
    after = seen(new, catalog, range(K, new.steps))
    assert not set(before) & set(after), "one epoch sees no sample twice"
    assert max(after.values()) == 1
    fresh = [key for key in after if key[0] == "vqav2" and int(key[1]) // 1000 >= 20]
    assert fresh, "the new questions are drawn"
    found = diff(old, new)
    assert found.samples_in["vqav2"] == len(fresh)
    console = Console(width=100)
    with console.capture() as text:
        console.print(report(found))
    assert f"vqav2 {len(fresh)}" in text.get()


def test_a_plan_differs_from_itself_in_nothing(built: Build) -> None:
    found = diff(built(), built())
    assert (found.fields, found.samples_in, found.samples_out) == ({}, {}, {})
    assert (found.first_step, found.touched) == (None, 0)


def test_another_seed_touches_steps_and_says_so(built: Build) -> None:
    found = diff(built(), built(seed=7))
    assert found.fields == {"recipe.seed": (0, 7)}
    assert found.first_step == 0
    assert found.touched > 0


def test_another_tokenizer_plans_again_with_the_same_samples(
    built: Build, recipe: Recipe, road: Path
) -> None:
    other = recipe(encoder={"tokenizer": "tok", "system": "Be brief."})
    new = Plan.build(Catalog.open(road / "catalog"), other)
    found = diff(built(), new)
    assert "encoder" in found.fields
    assert sum(found.samples_in.values()) <= 10


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (0, {}, "no step 0 to go on from"),
        (999, {}, r"no step 999(.|\n)*the plan has steps 1 to"),
        (K, {"packing": {"tokens": 300, "packs_per_step": 4}}, "packing.tokens is 300, and 256"),
        (K, {"budget": {"samples": 1}, "unit": "samples"}, "nothing is left to draw"),
    ],
)
def test_what_cannot_go_on_is_explained(
    built: Build, recipe: Recipe, road: Path, step: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        replan(Catalog.open(road / "catalog"), recipe(**changes), built(), step)


def test_a_mixture_keeps_its_file_form(recipe: Recipe) -> None:
    assert Mixture.model_validate(recipe().model_dump()).name == "try"
