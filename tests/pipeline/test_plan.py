"""The plan: shares are exact, caps hold, nothing is lost or doubled, same inputs give the same plan."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import Part
from pipeline.encode import PICTURE, Encoder, EncoderConfig, encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture, draws_for, merge, walk
from pipeline.packing import lower_bound, pack
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from pipeline.preflight import preflight
from pipeline.prompt import BOXES
from pipeline.trace import samples_of, steps_of
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

lengths = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 6)), min_size=1, max_size=300)


@given(lengths, st.integers(64, 256), st.integers(6, 24))
def test_every_sample_is_packed_once_and_no_budget_overrun(
    samples: list[tuple[int, int]], capacity: int, max_tiles: int
) -> None:
    tokens = np.array([length for length, _ in samples])
    tiles = np.array([count for _, count in samples])
    packs = pack(tokens, tiles, capacity, max_tiles)
    assert sorted(i for members in packs for i in members) == list(range(len(samples)))
    assert all(tokens[p].sum() <= capacity and tiles[p].sum() <= max_tiles for p in packs)
    assert len(packs) >= lower_bound(tokens, tiles, capacity, max_tiles)


def test_packs_are_nearly_full_on_a_skewed_mix() -> None:
    tokens = np.random.default_rng(0).lognormal(5.5, 1.0, 20_000).astype(np.int64).clip(8, 4096)
    packs = pack(tokens, np.zeros_like(tokens), 8192, 0)
    assert tokens.sum() / (len(packs) * 8192) > 0.99


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_every_prefix_holds_the_shares_to_within_a_draw(counts: list[int]) -> None:
    entry, number = merge([np.ones(count) for count in counts])
    for place, count in enumerate(counts):
        assert number[entry == place].tolist() == list(range(count))
        seen = np.cumsum(entry == place)
        wanted = np.arange(1, len(entry) + 1) * count / len(entry)
        assert np.abs(seen - wanted).max() <= len(counts)


@given(st.integers(1, 50), st.floats(0.1, 3.9), st.integers(0, 5))
def test_a_walk_sees_every_sample_before_it_sees_one_again(
    n: int, epochs: float, seed: int
) -> None:
    draws = int(n * epochs)
    order = walk(seed, "vqav2", n, draws)
    counts = np.bincount(order, minlength=n)
    assert len(order) == draws
    assert counts.max(initial=0) - counts.min() <= 1


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=60), st.floats(0, 1))
def test_the_draws_come_nearest_to_the_target(values: list[float], part: float) -> None:
    units, target = np.array(values), sum(values) * part
    count = draws_for(units, target, len(units))
    reached = np.concatenate([[0.0], np.cumsum(units)])
    assert abs(reached[count] - target) <= np.abs(reached - target).min() + 1e-6


@given(
    st.sampled_from(sorted(BOXES)),
    st.integers(16, 4000),
    st.integers(16, 4000),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_box_comes_back_within_half_a_bin(
    name: str, width: int, height: int, at: list[float]
) -> None:
    x0, x1 = sorted((at[0] * width, at[1] * width))
    y0, y1 = sorted((at[2] * height, at[3] * height))
    [found] = BOXES[name].read(BOXES[name].write((x0, y0, x1, y1), width, height), width, height)
    half = 0.5 / BOXES[name].bins + 1e-9
    for given_, read, side in zip((x0, y0, x1, y1), found, (width, height) * 2, strict=True):
        assert abs(given_ - read) <= half * side


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 12))
def test_tiles_never_pass_their_limit(width: int, height: int, most: int) -> None:
    policy = ImagePolicy(kind="slices", size=448, tokens=256, max_slices=most)
    columns, rows = policy.grid(width, height)
    assert columns * rows <= most
    assert policy.tiles([width], [height])[0] == (columns * rows + 1 if columns * rows > 1 else 1)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of two sources, with a tokenizer beside it."""
    folder = tmp_path_factory.mktemp("road")
    ingest(
        Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=40)), folder / "catalog"
    )
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 50)), folder / "catalog")
    make_tokenizer(folder / "tok")
    return folder


def recipe(road: Path, **changes: Any) -> Mixture:
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


def built(road: Path, **changes: Any) -> Plan:
    mixture = recipe(road, **changes)
    encode(Catalog.open(road / "catalog"), mixture.encoder)
    return Plan.build(Catalog.open(road / "catalog"), mixture)


def test_only_the_assistants_words_are_learnt(road: Path) -> None:
    config = EncoderConfig(tokenizer=road / "tok")
    name = encode(Catalog.open(road / "catalog"), config)
    tokenizer = Encoder(config).tokenizer
    catalog = Catalog.open(road / "catalog")
    checked = 0
    for samples, encoded in zip(
        catalog.files("samples"), catalog.encoding_parts(name), strict=True
    ):
        part, rows = Part(encoded), pl.read_parquet(samples).to_dicts()
        for number, row in enumerate(rows):
            data = bytes(part[number])
            ids = np.frombuffer(data, "<i4", len(data) // 5)
            mask = np.frombuffer(data, np.uint8, offset=len(ids) * 4).astype(bool)
            said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            assert tokenizer.decode(ids[mask]) == "".join(f"{text}<|im_end|>" for text in said)
            assert (ids == PICTURE).sum() == row["n_images"]
            checked += 1
    assert checked == 90


def test_a_second_encoding_encodes_nothing(road: Path) -> None:
    config = EncoderConfig(tokenizer=road / "tok")
    done: list[int] = []
    encode(Catalog.open(road / "catalog"), config)
    encode(Catalog.open(road / "catalog"), config, progress=done.append)
    assert done == []


def test_the_same_inputs_give_the_same_plan_and_no_second_commit(road: Path) -> None:
    first = built(road)
    logs = sorted((road / "catalog" / "plans" / "_delta_log").glob("*.json"))
    assert built(road).id == first.id
    assert sorted((road / "catalog" / "plans" / "_delta_log").glob("*.json")) == logs
    assert built(road, seed=7).id != first.id


@pytest.mark.parametrize("unit", ["samples", "text_tokens", "all_tokens", "loss_tokens"])
def test_shares_are_met_in_the_unit_asked_for(road: Path, unit: str) -> None:
    for entry in built(road, unit=unit).header["entries"]:
        assert entry["realised"][unit] == pytest.approx(entry["requested"], abs=0.02)


def test_every_draw_is_in_the_plan_once_and_fits(road: Path) -> None:
    plan = built(road)
    seen = []
    for number in range(plan.steps):
        step = plan.step(number)
        assert len(step.packs) == 4
        for packed in step.packs:
            assert packed.tokens <= 256
            seen += list(zip(packed.parts.tolist(), packed.rows.tolist(), strict=True))
    assert len(seen) == sum(entry["draws"] for entry in plan.header["entries"])
    assert len(set(seen)) == len(seen), "one epoch sees no sample twice"


def test_the_ledger_leads_from_step_to_sample_and_back(road: Path) -> None:
    plan = built(road)
    for number in range(plan.steps):
        for row in samples_of(plan, road / "catalog", number):
            assert number in steps_of(plan, road / "catalog", row["sample_id"])
            assert row["file"]


def test_a_plan_opens_by_the_beginning_of_its_id(road: Path) -> None:
    plan = built(road)
    assert Plan.open(road / "catalog", plan.id[:12]).id == plan.id
    assert Plan.open(plan.file.parent).id == plan.id
    assert preflight(plan).renderables
    with pytest.raises(UserError, match="0 plans named nothing"):
        Plan.open(road / "catalog", "nothing")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.floats(1, 3))
def test_caps_are_never_passed(road: Path, weight: int, most: float) -> None:
    sources = [
        {"source": "vqav2", "weight": weight, "max_epochs": most},
        {"source": "alpaca", "weight": 1, "max_epochs": 1},
    ]
    for entry in built(road, sources=sources, budget={"epochs": 9}).header["entries"]:
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
    road: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        built(road, **changes)


def test_a_typo_in_a_recipe_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("name: x\nunit: words\nbudget: {epochs: 1}\nsources: []\n")
    with pytest.raises(
        UserError, match=r"recipe\.yaml, line 2, field unit: Input should be 'samples'"
    ):
        Mixture.load(file)
