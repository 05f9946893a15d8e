"""Exports hold the plan's samples in its order, as the target's own library reads them."""

import gc
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import webdataset

from catalog import Catalog
from catalog.errors import UserError
from pipeline.batch import IGNORE
from pipeline.encode import Encoder
from pipeline.export import TARGETS, export
from pipeline.export.rows import Rows
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.trace import samples_of
from tests.benchmarks.peers import installed, stand_in_for_torchvision
from tests.official import write_picture
from tests.pipeline.conftest import Build
from tests.tokenizer import make_tokenizer


@pytest.fixture(scope="module")
def plan(built: Build) -> Plan:
    return built(image={"kind": "resize", "size": 16, "tokens": 4})


@pytest.fixture(scope="module")
def wanted(plan: Plan) -> list[str]:
    """The ids of the plan's samples, in its order."""
    steps = range(plan.steps)
    return [row["sample_id"] for s in steps for row in samples_of(plan, folder(plan), s)]


def folder(plan: Plan) -> Path:
    return plan.file.parents[2]


def written(plan: Plan, to: str, out: Path) -> list[Path]:
    shards = export(plan, folder(plan), to, out, shard_samples=40)
    assert len(shards) > 1
    return shards


def picture_ids(plan: Plan) -> dict[str, list[str]]:
    frame = pl.scan_parquet(
        [folder(plan) / part for part in plan.header["parts"]], missing_columns="insert"
    )
    return dict(frame.select("sample_id", "image_ids").collect().iter_rows())


def check(plan: Plan, wanted: list[str], rows: list[dict[str, Any]]) -> None:
    assert [row["sample_id"] for row in rows] == wanted
    ids = picture_ids(plan)
    for row in rows:
        assert [name.partition(".")[0] for name in row["images"]] == ids[row["sample_id"]]
        text = "".join(turn["content"] for turn in row["messages"])
        assert text.count("<image>") == len(row["images"])
        assert row["messages"][-1]["role"] == "assistant"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_its_shards(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    shards = written(plan, "webdataset", tmp_path)
    stream = webdataset.WebDataset([str(s) for s in shards], shardshuffle=False).decode("rgb8")
    samples = list(stream)
    check(plan, wanted, [sample["json"] for sample in samples])
    for sample in samples:
        for number in range(len(sample["json"]["images"])):
            assert sample[f"{number}.jpg"].shape == (30, 40, 3)
    # The library leaves its last file to the collector, which complains: let it do so here.
    del stream
    gc.collect()


def test_hf_datasets_reads_parquet(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    import datasets

    shards = written(plan, "parquet", tmp_path / "out")
    files = [str(shard) for shard in shards]
    stored = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert list(stored["sample_id"]) == wanted
    assert stored.features["images"].feature == datasets.Image()
    assert {picture.size for row in stored for picture in row["images"]} == {(40, 30)}
    plain = stored.cast_column("images", datasets.List(datasets.Image(decode=False)))
    check(
        plan, wanted, [row | {"images": [each["path"] for each in row["images"]]} for row in plain]
    )


def test_mosaic_streaming_reads_mds(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    if installed("mosaicml-streaming") is None:
        pytest.skip("mosaicml-streaming is not installed")
    stand_in_for_torchvision()
    shards = written(plan, "mds", tmp_path)
    reader = importlib.import_module("streaming.base.format").reader_from_json
    index = json.loads((tmp_path / "index.json").read_bytes())
    rows = []
    for described, shard in zip(index["shards"], shards, strict=True):
        opened = reader(str(tmp_path), None, described)
        assert opened.samples == described["samples"]
        assert described["raw_data"]["bytes"] == shard.stat().st_size
        for number in range(opened.samples):
            sample = opened[number]
            rows.append(sample["sample"])
            assert sum(sample["sample"]["sizes"]) == len(sample["pictures"])
    check(plan, wanted, rows)


def test_energon_prepares_its_shards(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    shards = written(plan, "energon", tmp_path)
    said = json.loads((tmp_path / ".nv-meta" / ".info.json").read_bytes())
    assert list(said["shard_counts"]) == [shard.name for shard in shards]
    assert sum(said["shard_counts"].values()) == len(wanted)
    if installed("megatron-energon") is None:
        pytest.skip("megatron-energon is not installed")
    energon = importlib.import_module("megatron.energon.flavors.webdataset.prepare")
    parts = energon.WebdatasetPreparator.prepare_dataset(
        tmp_path, list(said["shard_counts"]), split_parts_ratio=[("train", 1.0)], workers=1
    )
    assert {"json", "0.jpg"} <= parts
    again = json.loads((tmp_path / ".nv-meta" / ".info.json").read_bytes())
    assert again["shard_counts"] == said["shard_counts"]


def test_xtuner_packs_are_the_plans(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    shards = written(plan, "xtuner", tmp_path)
    paths = json.loads((tmp_path / "paths.json").read_bytes())
    assert paths == [str(shard) for shard in shards]
    lines = [[json.loads(line) for line in shard.read_text().splitlines()] for shard in shards]
    boundaries, slices = np.load(tmp_path / "boundaries.npy"), np.load(tmp_path / "samples.npy")
    assert boundaries.dtype == slices.dtype == np.int64
    assert boundaries[-1] == len(slices) == len(wanted)
    assert (slices[:, 2:5] == [-1, -1, 0]).all()
    packs = [pack for step in range(plan.steps) for pack in plan.step(step).packs if len(pack.rows)]
    lengths = np.add.reduceat(slices[:, 5], boundaries[:-1])
    assert lengths.tolist() == [pack.tokens for pack in packs]
    assert np.load(tmp_path / "order.npy").tolist() == list(range(len(packs)))
    rows = [
        (row, labels)
        for batch in PlanLoader(plan, workers=0)
        for row, labels in zip(batch.tokens, batch.labels, strict=True)
        if (labels != IGNORE).any()
    ]
    for number, (tokens, labels) in enumerate(rows):
        mine = [lines[p][i] for p, i in slices[boundaries[number] : boundaries[number + 1], :2]]
        ids = [token for line in mine for token in line["input_ids"]]
        assert ids == tokens[: len(ids)].tolist()
        assert [t for line in mine for t in line["labels"]] == labels[: len(ids)].tolist()
        assert all((tmp_path / name).exists() for line in mine for name in line["images"])


def test_llava_json_is_read_as_llava(plan: Plan, wanted: list[str], tmp_path: Path) -> None:
    written(plan, "llava", tmp_path)
    records = json.loads((tmp_path / "llava.json").read_bytes())
    assert len(records) == len(wanted)
    ids = picture_ids(plan)
    for record, sample_id in zip(records, wanted, strict=True):
        names = record.get("image", [])
        names = [names] if isinstance(names, str) else names
        assert [Path(name).stem for name in names] == ids[sample_id]
        assert all((tmp_path / name).exists() for name in names)
        assert record["conversations"][-1]["from"] == "gpt"


@pytest.mark.parametrize("to", TARGETS)
def test_a_killed_export_goes_on_where_it_stopped(plan: Plan, tmp_path: Path, to: str) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        assert total > 1
        raise Killed

    with pytest.raises(Killed):
        export(plan, folder(plan), to, tmp_path / "a", shard_samples=40, progress=kill)
    [first] = (tmp_path / "a").glob(f"{to}-*")
    before = first.stat().st_mtime_ns
    whole = export(plan, folder(plan), to, tmp_path / "b", shard_samples=40)
    again = export(plan, folder(plan), to, tmp_path / "a", shard_samples=40)
    assert again[0].stat().st_mtime_ns == before
    assert [shard.read_bytes() for shard in again] == [shard.read_bytes() for shard in whole]


def test_a_folder_of_something_else_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one of webdataset, parquet"):
        export(plan, folder(plan), "tfrecord", tmp_path)
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="is not empty"):
        export(plan, folder(plan), "llava", tmp_path)
    written(plan, "llava", tmp_path / "x")
    with pytest.raises(UserError, match="holds another export"):
        export(plan, folder(plan), "parquet", tmp_path / "x")


def test_a_caption_is_exported_with_the_prompt_that_was_encoded(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tok")
    annotations = {
        "images": [{"id": n, "file_name": f"{n:012}.jpg"} for n in range(6)],
        "annotations": [{"id": n, "image_id": n, "caption": f"Dog {n}."} for n in range(6)],
    }
    for n in range(6):
        write_picture(tmp_path / "coco/val2017" / f"{n:012}.jpg", n)
    (tmp_path / "coco/captions_val2017.json").write_text(json.dumps(annotations))
    ingest(Job(source="coco_captions", root=tmp_path / "coco"), tmp_path / "catalog")
    values = {
        "name": "captions",
        "budget": {"epochs": 1},
        "sources": [{"source": "coco_captions", "prompts": ["Look.", "See."]}],
        "encoder": {"tokenizer": "tok"},
        "image": {"kind": "resize", "size": 16, "tokens": 4},
        "packing": {"tokens": 256, "packs_per_step": 1},
    }
    mixture = Mixture.model_validate(values, context={"folder": tmp_path})
    plan = Plan.build(Catalog.open(tmp_path / "catalog"), mixture)
    assert Plan.build(Catalog.open(tmp_path / "catalog"), mixture).id == plan.id
    tokenizer = Encoder(mixture.encoder).tokenizer
    drawn = list(Rows(plan, tmp_path / "catalog").of(range(plan.steps)))
    assert len(drawn) == 6
    for row in drawn:
        text = tokenizer.decode([token for token in row.ids.tolist() if token >= 0])
        [said] = [wording for wording in ("Look.", "See.") if wording in text]
        assert row.messages[0]["content"] == f"<image>\n{said}"
    assert sum(len(row.ids) for row in drawn) == plan.table["tokens"].to_numpy().sum()
