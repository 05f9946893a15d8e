"""Pix2emb: a box is one token; its state gives box and mask, and a given box speaks for itself."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from torch import Tensor

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import Part
from model.ask import ask, draw
from model.config import RunConfig
from model.engine import parameter_groups
from model.evaluate import evaluate
from model.generate import generate
from model.language import vocabulary_of
from model.locations import giou, read_spots
from model.metrics.refcoco import iou
from model.scoreboard import scoreboard
from model.train import split
from model.vlm import CuveeModel
from pipeline.batch import IGNORE, LOCATION_TOKEN, Batch, asking
from pipeline.encode import LOCATION, Encoder, EncoderConfig, encode, from_bytes, spots_of
from pipeline.export.run import export
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.masks import decode
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.spots import SIDE as CELLS
from pipeline.spots import SPOT, as_hex, from_hex, painted
from tests.model.models import POLICY, SIDE, VISUAL, VOCABULARY, Sample, batch_of, sample, values
from tests.tokenizer import make_tokenizer

DATA = Path(__file__).parents[1] / "data"


def located(**changed: Any) -> CuveeModel:
    """Return a tiny model with location tokens."""
    config = RunConfig.model_validate(values(**changed))
    return CuveeModel.build(config, POLICY, VOCABULARY, located=True)


def spot(seed: int, *, masked: bool = True) -> np.ndarray[Any, Any]:
    """Return a spot with a random box, and a random mask."""
    noise = np.random.default_rng(seed)
    one = np.zeros(1, SPOT)
    low, high = np.sort(noise.random((2, 2)), axis=0)
    one["box"], one["masked"] = np.concatenate([low, high]), masked
    one["mask"] = noise.integers(0, 256, CELLS * CELLS // 8)
    return one.view(np.uint8)


def pointing(rows: list[list[Sample]], length: int) -> Batch:
    """Return a batch whose samples have a given location second, and learnt ones last."""
    batch = batch_of(rows, length)
    spots = torch.zeros((*batch.tokens.shape, SPOT.itemsize), dtype=torch.uint8)
    for row, samples in enumerate(rows):
        start = 0
        for ids, _ in samples:
            for place in (start + 1, start + len(ids) - 2, start + len(ids) - 1):
                batch.tokens[row, place] = LOCATION_TOKEN
                batch.labels[row, place] = IGNORE if place == start + 1 else LOCATION_TOKEN
                # What a spot is hangs on the sample alone.
                one = spot(ids[0] * 10 + place - start, masked=(place - start) % 2 == 0)
                spots[row, place] = torch.from_numpy(one)
            start += len(ids)
    return Batch(**{**{n: getattr(batch, n) for n in batch.__slots__}, "spots": spots})


ROWS = [[sample(9, 1, 0), sample(6, 0, 1)], [sample(7, 2, 2)]]


@pytest.mark.parametrize("weighting", ["token", "sqrt", "sample"])
def test_locations_in_a_pack_cost_what_they_cost_alone(weighting: str) -> None:
    model = located(weighting=weighting)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    packed = model(pointing(ROWS, 40))
    alone = [model(pointing([[one]], len(one[0]))) for row in ROWS for one in row]
    assert packed.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)
    pieces = split(pointing(ROWS, 40), 1)
    assert sum(model(piece).item() for piece in pieces) == pytest.approx(packed.item(), rel=1e-5)


def test_every_parameter_is_reached_with_and_without_locations() -> None:
    for batch in (pointing(ROWS, 40), batch_of(ROWS, 40), batch_of([[], []], 24)):
        model = located()
        model(batch).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            if name.startswith("locations") and batch.spots is not None:
                assert parameter.grad.any(), name
    config = RunConfig.model_validate(values())
    grouped = {id(p) for group in parameter_groups(model, config) for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters()}
    frozen = located(freeze=["connector"])
    assert not any(p.requires_grad for p in frozen.locations.parameters())  # type: ignore[union-attr]


def test_a_given_box_changes_what_follows_and_a_learnt_one_does_not_tell_itself() -> None:
    model = located().eval()
    batch = pointing([[sample(9, 1, 0)]], 13)
    before = model.embed(batch)
    given, learnt = 1, 11
    assert batch.spots is not None
    for place, tells in ((given, True), (learnt, False)):
        batch.spots[0, place] = torch.from_numpy(spot(99))
        after = model.embed(batch)
        changed = (after != before).any(-1)[0].nonzero()[:, 0].tolist()
        assert changed == ([place] if tells else [])
        before = after


def test_box_and_mask_are_learnt_and_generation_decodes_them() -> None:
    torch.manual_seed(0)
    ids, pictures = sample(5, 0, 4)
    batch = pointing([[(ids, pictures)]], len(ids))
    model = located().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model(batch).backward()
        optimizer.step()
    asked = asking([batch.tokens[0, :2].tolist()], batch.pixels)
    assert batch.spots is not None
    prompt = Batch(
        **{**{n: getattr(asked, n) for n in asked.__slots__}, "spots": batch.spots[:, :2]}
    )
    [answer] = generate(model, prompt, max_new_tokens=3, eos=VOCABULARY - 1)
    assert answer.tokens == batch.tokens[0, 2:].tolist()
    assert answer.tokens.count(LOCATION_TOKEN) == len(answer.boxes) == 2, "the last one counts too"
    true, masked, cells = read_spots(batch.spots[0, 3:])
    for box, expected in zip(answer.boxes, true.tolist(), strict=True):
        assert iou(box, expected) > 0.8
    for drawn, there, expected in zip(answer.masks, masked, cells, strict=True):
        right = (drawn.flatten() == expected.bool()).float().mean()
        assert right > 0.95 if there else right < 0.9


def test_it_is_saved_and_carried_into_the_next_run(tmp_path: Path) -> None:
    model = located().eval()
    model.save(tmp_path / "model")
    loaded = CuveeModel.load(tmp_path / "model").eval()
    batch = pointing(ROWS, 40)
    assert torch.equal(loaded(batch), model(batch))
    assert loaded.location == VOCABULARY
    parts = {part: {"path": str(tmp_path / "model" / part)} for part in ("vision", "language")}
    onward = located(**parts, connector_from=str(tmp_path / "model/connector.safetensors"))
    assert torch.equal(onward.eval()(batch), model(batch))


def test_the_loss_falls_to_zero_where_boxes_are_right() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.8], [0.0, 0.0, 1.0, 1.0]])
    assert torch.allclose(giou(boxes, boxes), torch.ones(2))
    apart = torch.tensor([[0.6, 0.2, 1.0, 0.8], [0.0, 0.0, 0.5, 1.0]])
    assert giou(apart, boxes).tolist() == pytest.approx([-0.1111, 0.5], abs=1e-3)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of RefCOCO's fixture and a tokenizer."""
    folder = tmp_path_factory.mktemp("located")
    ingest(Job(source="refcoco", root=DATA / "refcoco"), folder / "catalog")
    make_tokenizer(folder / "tok")
    return folder


def mixture(road: Path) -> Mixture:
    return Mixture.model_validate(
        {
            "name": "point",
            "budget": {"epochs": 1},
            "sources": [{"source": "refcoco"}],
            "encoder": {"tokenizer": road / "tok", "boxes": "pix2emb"},
            "image": {"size": SIDE, "tokens": VISUAL},
            "packing": {"tokens": 128, "packs_per_step": 1},
        }
    )


def test_a_plan_carries_the_boxes_and_masks_of_its_records(road: Path) -> None:
    config = mixture(road).encoder
    name = encode(Catalog.open(road / "catalog"), config)
    catalog = Catalog.open(road / "catalog")
    seen = 0
    for samples, file in zip(catalog.files("samples"), catalog.encoding_parts(name), strict=True):
        part = Part(file)
        for number, row in enumerate(pl.read_parquet(samples).to_dicts()):
            data = part[number]
            ids, mask = from_bytes(data)
            spots = spots_of(data)
            assert int((ids == LOCATION).sum()) == len(spots) == 1
            assert mask[ids == LOCATION].all()
            size = np.tile([row["widths"][0], row["heights"][0]], 2)
            assert spots["box"][0] * size == pytest.approx(row["regions"][0]["box"], abs=0.02)
            has = bool(row["regions"][0]["polygons"] or row["regions"][0]["rle"])
            assert bool(spots["masked"][0]) == has
            if has:
                cells = np.unpackbits(spots["mask"][0])
                assert 0.2 < cells.mean() <= 1, "a mask fills its own box"
            seen += 1
    assert seen
    plan = Plan.build(Catalog.open(road / "catalog"), mixture(road))
    assert plan.located
    batches = list(PlanLoader(plan, workers=0))
    points = sum(int((batch.tokens == LOCATION_TOKEN).sum()) for batch in batches)
    assert points == sum(batch.samples for batch in batches)
    for batch in batches:
        assert batch.spots is not None
        boxes, _, _ = read_spots(batch.spots[batch.tokens == LOCATION_TOKEN])
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_plan_with_location_tokens_goes_to_trainers_that_read_text(
    road: Path, tmp_path: Path
) -> None:
    plan = Plan.build(Catalog.open(road / "catalog"), mixture(road))
    with pytest.raises(UserError, match=r"location tokens(.|\n)*export to .*llava"):
        export(plan, road / "catalog", "xtuner", tmp_path / "xtuner")
    assert not (tmp_path / "xtuner").exists()
    [shard] = export(plan, road / "catalog", "llava", tmp_path / "llava")
    for line in shard.read_text().splitlines():
        assert "<loc>" in json.loads(line)["conversations"][-1]["value"]


def test_text_that_a_user_typed_points_as_training_does(road: Path) -> None:
    encoder = Encoder(EncoderConfig(tokenizer=road / "tok", boxes="pix2emb"))
    text = "What is in <loc>0.1,0.2,0.3,0.4</loc>? \ufdd1"
    row = {
        "task": "vqa",
        "messages": [{"role": "user", "content": text, "loss": None}],
        "regions": [],
        "n_images": 0,
        "widths": [],
        "heights": [],
    }
    ids, spots = encoder.located_prompt(row)
    assert ids.count(LOCATION) == 1, "a typed mark is no location"
    assert spots["box"][0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    plain = Encoder(EncoderConfig(tokenizer=road / "tok")).prompt(row)
    assert LOCATION not in plain


def test_a_trained_run_is_scored_by_its_boxes_and_masks(road: Path, tmp_path: Path) -> None:
    plan = Plan.build(Catalog.open(road / "catalog"), mixture(road))
    run = RunConfig.model_validate(
        values(catalog=road / "catalog", output=road / "run", plan=plan.id)
    )
    model = CuveeModel.build(run, POLICY, vocabulary_of(road / "tok"), located=True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches = list(PlanLoader(plan, workers=0))
    for _ in range(60):
        for batch in batches:
            optimizer.zero_grad()
            (model(batch) / batch.loss_tokens).backward()
            optimizer.step()
    model.save(run.output / "model")
    shutil.copytree(road / "tok", run.output / "model/tokenizer")
    (run.output / "run.yaml").write_text(run.dump())
    score = evaluate(run.output, "train", blind=False).scores["sources"]["refcoco"]["model"]
    assert score["accuracy"] == 1.0, score
    assert score["unreadable"] == 0.0
    [result] = [evaluate(run.output, "train").scores["sources"]["refcoco"]]
    assert result["masks"]["scored"] > 0
    assert result["masks"]["ciou"] > 0.7
    table = io.StringIO()
    Console(file=table).print(scoreboard({"split": "train", "sources": {"refcoco": result}}))
    assert "masks, cIoU" in table.getvalue()
    items = pl.read_parquet(run.output / "eval/train/items/refcoco.parquet").to_dicts()
    for item in items:
        assert item["predicted_mask"], "a model that draws draws each time"
        found = decode(json.loads(item["predicted_mask"]))
        assert found.shape == (item["height"], item["width"])
        x0, y0, x1, y1 = item["predicted_box"]
        outside = found.copy()
        outside[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = False
        assert not outside.any()
    catalog = Catalog.open(road / "catalog")
    picture = tmp_path / "seen.png"
    Image.open(io.BytesIO(catalog.image_bytes(items[0]["image_ids"][0]))).save(picture)
    reply = ask(run.output, picture, items[0]["question"])
    assert len(reply.masks) == len(reply.boxes) == 1
    draw(picture, (), tmp_path / "drawn.png", reply.masks)
    before, after = (
        np.asarray(Image.open(p).convert("RGB")) for p in (picture, tmp_path / "drawn.png")
    )
    assert ((before != after).any(-1) == reply.masks[0]).mean() > 0.99


@given(
    cells=st.integers(0, 2**64 - 1).map(
        lambda seed: np.random.default_rng(seed).random((CELLS, CELLS)) < 0.5
    ),
    box=st.tuples(*[st.floats(0, 200)] * 4),
)
def test_cells_are_painted_within_their_box_and_nowhere_else(
    cells: np.ndarray[Any, Any], box: tuple[float, ...]
) -> None:
    assert (from_hex(as_hex(cells)) == cells).all()
    x0, y0, x1, y1 = box
    mask = painted(cells, box, 160, 120)
    assert mask.shape == (120, 160)
    ys, xs = mask.nonzero()
    assert ((xs + 0.5 >= x0) & (xs + 0.5 < x1) & (ys + 0.5 >= y0) & (ys + 0.5 < y1)).all()
    whole = painted(np.ones_like(cells), box, 160, 120)
    assert (painted(~cells, box, 160, 120) == (whole & ~mask)).all()


def test_tensors_of_spots_are_read_as_they_were_written() -> None:
    one = spot(3)
    box, masked, cells = read_spots(torch.from_numpy(one)[None])
    held = one.view(SPOT)[0]
    assert box[0].tolist() == held["box"].tolist()
    assert masked.tolist() == [1.0]
    assert torch.equal(cells[0], Tensor(np.unpackbits(held["mask"]).astype(np.float32)))
