"""A recipe requires licences: what has another one, or none, is never drawn."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import Catalog
from catalog.errors import UserError
from catalog.statistics import Statistics
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.licenses import allowed, counted, licensed
from pipeline.plan import Plan
from pipeline.trace import samples_of
from tests.pipeline.conftest import Build, Recipe

NAMES = st.sampled_from(["CC BY 4.0", "CC BY-NC 4.0", "MIT", "ODC-BY", None])


@settings(deadline=None)
@given(st.lists(NAMES), st.lists(st.sampled_from(["MIT", "cc by*", "*NC*", "GPL"]), min_size=1))
def test_a_sample_is_kept_if_its_licence_is_allowed_and_never_without_one(
    names: list[str | None], patterns: list[str]
) -> None:
    frame = pl.LazyFrame({"license": names}, schema={"license": pl.String})
    kept = frame.filter(licensed(frame, patterns)).collect()["license"].to_list()
    assert kept == [name for name in names if name in allowed(names, patterns)]
    assert None not in kept


def test_counts_are_said_most_first() -> None:
    names = ["MIT", "MIT", None, "A", "B", "C", "D"]
    words = counted(pl.LazyFrame({"license": names}))
    assert words.startswith("MIT (2), ")
    assert words.endswith(", 1 more")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six dialogues, two under each of three licences."""
    folder = tmp_path_factory.mktemp("licences")
    rows = [
        {
            "id": number,
            "license": ("CC BY 4.0", "CC BY-SA 4.0", "")[number % 3],
            "conversations": [
                {"from": "human", "value": f"Is {number} odd?"},
                {"from": "gpt", "value": "Yes" if number % 2 else "No"},
            ],
        }
        for number in range(6)
    ]
    (folder / "llava").mkdir()
    (folder / "llava" / "chat.json").write_text(json.dumps(rows))
    ingest(Job(source="llava", root=folder / "llava"), folder / "catalog")
    return folder / "catalog"


@pytest.mark.parametrize(
    ("of_recipe", "of_entry", "samples"),
    [
        (["CC BY 4.0"], None, 2),
        (["CC BY*"], None, 6),
        (["cc by 4.0", "CC BY-SA*"], None, 4),
        (None, ["CC BY-SA 4.0"], 2),
        (["CC BY*"], ["*-SA *", "MIT"], 2),
    ],
)
def test_a_plan_draws_what_recipe_and_entry_both_allow(
    catalog: Path,
    recipe: Recipe,
    of_recipe: list[str] | None,
    of_entry: list[str] | None,
    samples: int,
) -> None:
    sources = [{"source": "llava", "licenses": of_entry}]
    plan = Plan.build(Catalog.open(catalog), recipe(sources=sources, licenses=of_recipe))
    drawn = [row for step in range(plan.steps) for row in samples_of(plan, catalog, step)]
    assert len(drawn) == samples
    for patterns in (of_recipe, of_entry):
        assert patterns is None or len(allowed([r["license"] for r in drawn], patterns)) == samples


def test_an_entry_without_an_allowed_sample_says_what_it_has(
    catalog: Path, recipe: Recipe, built: Build
) -> None:
    with pytest.raises(UserError, match=r"alpaca has no sample under CC BY 4\.0") as error:
        built(licenses=["CC BY 4.0"])
    assert "it has: CC BY-NC 4.0 (50)" in str(error.value)
    sources = [{"source": "llava", "where": "native_id = '0'"}]
    with pytest.raises(UserError, match=r"where native_id = .0. under MIT; it has: CC BY 4\.0"):
        Plan.build(Catalog.open(catalog), recipe(sources=sources, licenses=["MIT"]))


def test_statistics_count_samples_by_licence(catalog: Path) -> None:
    found = Statistics.of(Catalog.open(catalog)).licenses
    assert dict(found.select("license", "samples").iter_rows()) == {
        "CC BY 4.0": 2,
        "CC BY-NC 4.0": 2,
        "CC BY-SA 4.0": 2,
    }
