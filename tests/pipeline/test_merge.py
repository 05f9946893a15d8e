"""Merged turns: one conversation a picture, the picture once, every sample still counted and traced."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from catalog import Catalog
from catalog.catalog import TABLES
from catalog.parts import Part
from catalog.schema import ENCODINGS
from pipeline.batch import IGNORE
from pipeline.encode import PICTURE, Encoder, EncoderConfig, from_bytes
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Share
from pipeline.plan import Plan
from pipeline.planner import Inputs
from pipeline.preflight import preflight
from pipeline.trace import samples_of, steps_of
from tests.pipeline.conftest import Build, Recipe

MERGED = [{"source": "vqav2", "weight": 2, "turns_per_image": 2}, {"source": "alpaca", "weight": 1}]


@pytest.fixture(scope="module")
def merged(built: Build) -> Plan:
    return built(sources=MERGED)


def vqav2_files(road: Path, recipe: Recipe, **changes: object) -> list[Path]:
    inputs = Inputs.of(Catalog.open(road / "catalog"), recipe(sources=MERGED, **changes))
    return [file for file in inputs.files if file.parent.name == "source=vqav2"]


def test_a_conversation_is_the_templates_with_the_picture_once(road: Path, recipe: Recipe) -> None:
    encoder = Encoder(EncoderConfig(tokenizer=road / "tok"))
    catalog = Catalog.open(road / "catalog")
    rows = {row["sample_id"]: row for row in catalog.samples().collect().to_dicts()}
    [file] = vqav2_files(road, recipe)
    part = Part(file)
    frame = pl.read_parquet(file, columns=["sample_id", "members", "n_images", "image_ids"])
    assert len(part) == len(frame) == 20
    for number, row in enumerate(frame.to_dicts()):
        samples = [rows[key] for key in row["members"]]
        assert {tuple(sample["image_ids"]) for sample in samples} == {tuple(row["image_ids"])}
        ids, mask = from_bytes(part[number])
        assert (ids == PICTURE).sum() == row["n_images"] == 1
        messages = [
            {"role": m["role"], "content": m["content"].replace("<image>\n", "")}
            for sample in samples
            for m in sample["messages"]
        ]
        assert len(messages) == 4
        text = encoder.tokenizer.apply_chat_template(messages, tokenize=False)
        decoded = encoder.tokenizer.decode(ids[ids != PICTURE])
        assert decoded.replace("user\n\n", "user\n") == text
        said = "".join(f"{m['content']}<|im_end|>" for m in messages if m["role"] == "assistant")
        assert encoder.tokenizer.decode(ids[mask]) == said
        place = int(np.flatnonzero(ids == PICTURE)[0])
        assert place < int(np.flatnonzero(mask)[0]), "the picture stands in the first question"


def test_samples_are_counted_once_and_visual_tokens_saved(merged: Plan, built: Build) -> None:
    entry = merged.header["entries"][0]
    plain = built().header["entries"][0]
    assert entry["samples"] == plain["samples"] == 40
    assert entry["draws"] == 2 * entry["conversations"]
    assert entry["amounts"]["images"] == entry["conversations"]
    assert entry["saved"] == 16 * (entry["draws"] - entry["conversations"])
    console = Console(width=100)
    with console.capture() as text:
        console.print(preflight(merged))
    assert f"{entry['saved']:,} visual tokens" in text.get()
    with console.capture() as text:
        console.print(preflight(built()))
    assert "visual tokens saved" not in text.get()


def test_the_ledger_lists_every_sample(merged: Plan, road: Path) -> None:
    catalog = road / "catalog"
    seen: Counter[str] = Counter()
    for number in range(merged.steps):
        rows = list(samples_of(merged, catalog, number))
        seen.update(row["sample_id"] for row in rows)
        assert all(row["file"] for row in rows)
    assert seen.total() == sum(entry["draws"] for entry in merged.header["entries"])
    assert max(seen.values()) == 1
    for number in range(merged.steps):
        for row in samples_of(merged, catalog, number):
            assert steps_of(merged, catalog, row["sample_id"]) == [number]


def test_batches_learn_all_answers(merged: Plan) -> None:
    for batch in PlanLoader(merged, workers=0):
        assert batch.loss_tokens == int((batch.labels != IGNORE).sum())
        assert len(batch.pixels) == sum(pack.tiles for pack in merged.step(batch.step).packs)
        assert torch.isfinite(batch.pixels).all()


def test_a_second_plan_merges_nothing_again(merged: Plan, recipe: Recipe, road: Path) -> None:
    folder = road / "catalog" / "encodings" / "_delta_log"
    logs = sorted(folder.glob("*.json"))
    [file] = vqav2_files(road, recipe)
    assert vqav2_files(road, recipe, seed=5) == [file]
    assert sorted(folder.glob("*.json")) == logs
    assert merged.header["parts"].count(file.relative_to(road / "catalog").as_posix()) == 1


def test_a_conversation_longer_than_a_pack_is_left_apart(recipe: Recipe, road: Path) -> None:
    tokens = 16 + max(
        int(pl.read_parquet(file, columns=["n_tokens"])["n_tokens"].max())  # type: ignore[arg-type]
        for file in Inputs.of(Catalog.open(road / "catalog"), recipe()).files
        if file.parent.name == "source=vqav2"
    )
    [file] = vqav2_files(road, recipe, packing={"tokens": tokens, "packs_per_step": 4})
    assert pl.read_parquet(file, columns=["members"])["members"].list.len().to_list() == [1] * 40


def test_where_chooses_before_merging(recipe: Recipe, road: Path) -> None:
    catalog = Catalog.open(road / "catalog")
    chosen = catalog.samples().filter(pl.col("source") == "vqav2").collect()["native_id"][:11]
    where = f"native_id IN ({', '.join(map(repr, chosen))})"
    share = Share(source="vqav2", turns_per_image=8, where=where)
    inputs = Inputs.of(catalog, recipe(sources=[share.model_dump()]))
    [pool] = inputs.pools()
    assert int(pool.members.sum()) == 11
    assert len(pool) < 11
    assert pool.unit("samples").sum() == 11


def test_an_older_catalog_takes_merged_encodings(
    recipe: Recipe, road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = pa.schema([field for field in ENCODINGS if field.name != "members"])
    monkeypatch.setitem(TABLES, "encodings", (old, ("encoder", "source")))
    Catalog.create(tmp_path / "catalog")
    monkeypatch.undo()
    ingest(Job(source="vqav2", root=road / "vqav2"), tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    plan = Plan.build(catalog, recipe(sources=MERGED[:1]))
    assert plan.header["entries"][0]["conversations"] == 20
    plain = Plan.build(catalog, recipe(sources=[{"source": "vqav2", "weight": 1}]))
    rows = catalog.encodings(plain.header["encoder"]).collect()
    assert len(rows) == 40
