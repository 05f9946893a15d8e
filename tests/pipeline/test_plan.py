"""The plan: shares are exact, caps hold, nothing is lost or doubled, same inputs give the same plan."""

from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from catalog.errors import UserError
from pipeline.encode import EncoderConfig
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight
from tests.official import write_alpaca
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


def test_over_long_samples_are_counted_and_dropped_or_truncated(built: Build, road: Path) -> None:
    encoder = built().header["encoder"]
    encodings = Catalog.open(road / "catalog").encodings(encoder).filter(source="vqav2")
    longest = 16 + int(encodings.collect()["n_tokens"].max())  # type: ignore[arg-type]
    packing = {"tokens": longest - 1, "packs_per_step": 2}
    dropped = built(packing=packing, sources=[{"source": "vqav2"}])
    [entry] = dropped.header["entries"]
    assert 0 < entry["overlong"] < 40
    assert entry["overlong"] + entry["samples"] == 40
    short = built(packing=packing | {"overlong": "truncate"}, sources=[{"source": "vqav2"}])
    [cut] = short.header["entries"]
    assert cut["truncated"] + cut["overlong"] == entry["overlong"]
    assert cut["truncated"] > 0
    for batch in PlanLoader(short, workers=0):
        labels = int((batch.labels >= 0).sum())
        assert labels == batch.loss_tokens == short.step(batch.step).loss_tokens
        assert (batch.segments > 0).sum(1).tolist() == [
            p.tokens for p in short.step(batch.step).packs
        ]


def test_a_source_that_the_recipe_does_not_name_changes_nothing(
    built: Build, road: Path, tmp_path: Path
) -> None:
    alone = built(sources=[{"source": "alpaca", "weight": 1}])
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "a", 50)), tmp_path / "catalog")
    encoder = EncoderConfig(tokenizer=road / "tok")
    mixture = Mixture.model_validate(
        alone.header["recipe"] | {"encoder": encoder.model_dump()},
    )
    other = Plan.build(Catalog.open(tmp_path / "catalog"), mixture)
    assert other.id == alone.id, "another catalog with the same samples"
    assert other.table.equals(alone.table)
    assert (other.tokenizer / "tokenizer.json").is_file()


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
        ({"budget": {"tokens": 5}}, "budget is spent before the first sample"),
    ],
)
def test_an_infeasible_recipe_is_explained_with_numbers(
    built: Build, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        built(**changes)
