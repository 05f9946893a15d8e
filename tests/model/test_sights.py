"""Padding cut away, slices of their own shape, a finer look: packed is alone, and plan and model agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from catalog import Catalog
from catalog.errors import UserError
from model.config import RunConfig
from model.connector.build import build_connector
from model.fine import branch_cost
from model.generate import generate
from model.train import split
from model.vision import build_vision
from model.vlm import CuveeModel
from pipeline.batch import IMAGE_TOKEN, Batch, asking
from pipeline.encode import encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from tests.model.models import (
    LANGUAGE,
    SIDE,
    VISION,
    VISUAL,
    VOCABULARY,
    Sample,
    batch_of,
    sample,
    values,
)
from tests.model.test_connectors import CHOICES
from tests.official import write_vqav2
from tests.tokenizer import make_tokenizer

SHAPED = ImagePolicy(kind="adaptive", size=SIDE, tokens=VISUAL, max_slices=4, patch=4)
FINE = ImagePolicy(size=SIDE, tokens=VISUAL, fine=32)
UNPAD = ImagePolicy(kind="anyres", size=SIDE, tokens=VISUAL, unpad=True)
ASKING: dict[str, dict[str, Any]] = {
    "resampler": {"kind": "resampler", "grid": 2, "heads": 4},
    "perceiver": {"kind": "perceiver", "queries": 4, "layers": 2, "heads": 4},
    "qformer": {"kind": "qformer", "queries": 4, "layers": 2, "width": 32, "heads": 4},
}
BRANCH = {"fine": {"vision": {"config": VISION}, "width": 8, "heads": 2}}
CLIP = {**VISION, "model_type": "clip_vision_model"}
GRIDS = torch.tensor([[2, 7], [4, 4], [16, 1], [3, 5]])


def build(policy: ImagePolicy, **changed: Any) -> CuveeModel:
    return CuveeModel.build(RunConfig.model_validate(values(**changed)), policy, VOCABULARY)


def laid(columns: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a random picture of such a grid, (1, 3, H, W), and the square that its patches fill."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randn(1, 3, rows * 4, columns * 4, generator=generator)
    cells = torch.randn(16, 3, 4, 4, generator=generator)
    patches = picture.unfold(2, 4, 4).unfold(3, 4, 4)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    cells[: len(patches)] = patches
    square = cells.view(4, 4, 3, 4, 4).permute(2, 0, 3, 1, 4).reshape(1, 3, 16, 16)
    return picture, square


@pytest.mark.parametrize("config", [VISION, CLIP], ids=["siglip", "clip"])
def test_a_slice_among_others_is_the_tower_on_it_alone(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    vision = build_vision(RunConfig.model_validate(values(vision={"config": config})).vision, SIDE)
    for parameter in vision.parameters():
        parameter.data.mul_(3)
    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-3}  # of values around 30
    pairs = [laid(columns, rows, seed) for seed, (columns, rows) in enumerate(GRIDS.tolist())]
    together = vision(torch.cat([square for _, square in pairs]), GRIDS)
    for found, (picture, square), grid in zip(together, pairs, GRIDS, strict=True):
        alone = vision.tower(picture, interpolate_pos_encoding=True).last_hidden_state
        alone = alone[0, 1:] if vision.has_class_token else alone[0]
        assert torch.allclose(found[: int(grid.prod())], alone, **near)
        again = vision(square, grid[None])[0, : int(grid.prod())]
        assert torch.allclose(found[: int(grid.prod())], again, **near)
    square = pairs[1][1]
    assert torch.allclose(vision(square, GRIDS[1:2]), vision(square), **near)


@pytest.mark.parametrize("kind", ASKING)
def test_tokens_of_a_slice_hang_on_its_own_patches_alone(kind: str) -> None:
    config = RunConfig.model_validate(values(connector=ASKING[kind])).connector
    connector = build_connector(config, vision=16, language=32)
    patches = torch.randn(len(GRIDS), 16, 16)
    together = connector(patches, GRIDS)
    assert together.shape == (len(GRIDS), 4, 32)
    changed = patches.clone()
    changed[~(torch.arange(16) < GRIDS.prod(1, keepdim=True))] += 9
    assert torch.allclose(connector(changed, GRIDS), together, atol=1e-5)
    for number in range(len(GRIDS)):
        one = slice(number, number + 1)
        assert torch.allclose(connector(patches[one], GRIDS[one]), together[one], atol=1e-5)
        used = int(GRIDS[number].prod())
        if kind != "resampler":
            assert torch.allclose(connector(patches[one, :used])[0], together[number], atol=1e-5)
    assert torch.allclose(
        connector(patches, GRIDS[1:2].expand(4, 2)), connector(patches), atol=1e-5
    )
    if kind == "resampler":
        turned = connector(patches[:1], torch.tensor([[7, 2]]))
        assert not torch.allclose(turned, together[:1], atol=1e-3), "places follow the grid"


def rows_of(fields: dict[str, Any], rows: list[list[Sample]], length: int) -> Batch:
    return replace(batch_of(rows, length), **fields)


ROWS = [[sample(9, 1, 0), sample(6, 0, 1)], [sample(7, 2, 2), sample(5, 1, 3)]]


def alone(batch: Batch, name: str, whole: Tensor) -> list[Batch]:
    """Return each sample of `ROWS` as a batch, with its own part of a tensor of tiles."""
    single, first = [], 0
    for row in ROWS:
        for ids, pictures in row:
            own = {name: whole[first : first + len(pictures)]}
            single.append(rows_of(own, [[(ids, pictures)]], len(ids)))
            first += len(pictures)
    return single


@pytest.mark.parametrize("kind", ASKING)
def test_shaped_slices_packed_are_each_alone(kind: str) -> None:
    model = build(SHAPED, connector=ASKING[kind])
    batch = rows_of({"grids": GRIDS}, ROWS, 40)
    total = sum(model(one).item() for one in alone(batch, "grids", GRIDS))
    assert model(batch).item() == pytest.approx(total, rel=1e-5)
    pieces = [model(piece).item() for piece in split(batch, 1)]
    assert sum(pieces) == pytest.approx(total, rel=1e-5)
    whole = rows_of({"grids": torch.full((4, 2), 4)}, ROWS, 40)
    plain = build(ImagePolicy(size=SIDE, tokens=VISUAL), connector=ASKING[kind])
    assert model(whole).item() == pytest.approx(plain(batch_of(ROWS, 40)).item(), rel=1e-5)
    model(rows_of({"grids": GRIDS[:0]}, [[sample(6, 0, 1)]], 12)).backward()


def awake(model: CuveeModel) -> CuveeModel:
    """Let the branch say something."""
    assert model.fine is not None
    torch.manual_seed(1)
    for cross in model.fine.cross.values():
        torch.nn.init.normal_(cross.out.weight, std=1.0)  # type: ignore[arg-type, union-attr]
    return model


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"gradient_checkpointing": True},
        {"language": {"config": {**LANGUAGE, "model_type": "llama"}}},
    ],
    ids=["plain", "checkpointed", "llama"],
)
def test_a_finer_look_begins_as_nothing_and_reaches_its_own_sample(changed: dict[str, Any]) -> None:
    seen = torch.randn(4, 3, 32, 32)
    batch = rows_of({"fine": seen}, ROWS, 40)
    model, plain = build(FINE, **BRANCH, **changed), build(replace_fine(), **changed)
    assert plain.fine is None
    names = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.data.copy_(names[name].data)
    assert model(batch).item() == plain(batch_of(ROWS, 40)).item()
    awake(model)
    loss = model(batch)
    assert loss.item() != plain(batch_of(ROWS, 40)).item()
    singles = alone(batch, "fine", seen)
    losses = [model(one).item() for one in singles]
    assert model(batch).item() == pytest.approx(sum(losses), rel=1e-5)
    pieces = [model(piece).item() for piece in split(batch, 1)]
    assert sum(pieces) == pytest.approx(sum(losses), rel=1e-5)
    loss = model(batch)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    other = model(replace(singles[0], fine=seen[1:2])).item()
    assert other != pytest.approx(losses[0], rel=1e-5)
    assert model(rows_of({}, [[sample(6, 0, 1)]], 12)).item() == pytest.approx(
        plain(batch_of([[sample(6, 0, 1)]], 12)).item(), rel=1e-5
    ), "a sample without a picture asks none"


def replace_fine() -> ImagePolicy:
    return FINE.model_copy(update={"fine": None})


def test_without_pictures_the_branch_is_still_reached() -> None:
    model = build(FINE, **BRANCH)
    model(batch_of([[sample(6, 0, 1)]], 12)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not name.startswith("fine") or not parameter.grad.any()


def test_the_branch_joined_without_padding_has_the_same_loss() -> None:
    model = awake(build(FINE, **BRANCH))
    batch = rows_of({"fine": torch.randn(4, 3, 32, 32)}, ROWS, 40)
    expected = model(batch).item()
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("flash_twin", sdpa_attention_forward)
    AttentionMaskInterface.register("flash_twin", sdpa_mask)
    model.language.config._attn_implementation = "flash_twin"
    assert model(batch).item() == pytest.approx(expected, rel=1e-5)


def test_generation_with_a_finer_look_is_search_without_a_cache(tmp_path: Path) -> None:
    model = awake(build(FINE, **BRANCH)).eval()
    prompts = [sample(6, 1, 0), sample(8, 0, 1), sample(4, 2, 2)]
    pixels, seen = torch.cat([p for _, p in prompts]), torch.randn(3, 3, 32, 32)
    batch = asking([ids for ids, _ in prompts], pixels, fine=seen, tiles=(1, 0, 2))
    said = generate(model, batch, max_new_tokens=6, eos=VOCABULARY + 9)
    first = 0
    for (ids, pictures), answer in zip(prompts, said, strict=True):
        tokens, own = list(ids), slice(first, first + len(pictures))
        first = own.stop
        for _ in range(6):
            alone = asking([tokens], pictures, fine=seen[own], tiles=(len(pictures),))
            inputs = model.embed(alone)
            assert model.fine is not None
            model.fine.point(model.look(alone))
            logits = model.language(inputs_embeds=inputs, use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
        assert answer.tokens == tokens[len(ids) :]
    model.save(tmp_path / "model")
    loaded = CuveeModel.load(tmp_path / "model").eval()
    whole = rows_of({"fine": torch.randn(4, 3, 32, 32)}, ROWS, 40)
    assert torch.equal(loaded(whole), model(whole))


def test_the_branch_costs_what_is_counted() -> None:
    model = build(FINE, **BRANCH)
    assert model.fine is not None
    cost = branch_cost(model.fine, tokens=10)
    assert cost.parameters == sum(p.numel() for p in model.fine.parameters())
    # Tower: 64 patches through 2 layers; crosses: 2 layers of width 8 over 64 features, 10 tokens.
    layer = 4 * 16 * 16 + 2 * 16 * 32
    tower = 2 * 64 * (48 * 16 + 2 * layer) + 2 * 4 * 64**2 * 16
    cross = 2 * (2 * 10 * (2 * 32 * 8) + 2 * 64 * (2 * 16 * 8) + 4 * 10 * 64 * 8)
    assert cost.flops == tower + cross
    assert cost.tokens == 0


def test_unpadded_features_stand_at_their_places(tmp_path: Path) -> None:
    model = build(UNPAD).eval()
    assert model.newline is not None
    sizes = [(40, 16), (30, 30)]
    readings = [torch.from_numpy(UNPAD.reading(*size)) for size in sizes]
    tiles = [int(UNPAD.tiles([w], [h])[0]) for w, h in sizes]
    pixels = torch.randn(sum(tiles), 3, SIDE, SIDE)
    features = model.connector(model.vision(pixels)).flatten(0, 1)
    prompts = [[1] + [IMAGE_TOKEN] * len(reading) + [2] for reading in readings]
    batch = asking(prompts, pixels, tiles=tuple(tiles))
    order = torch.zeros_like(batch.tokens)
    order[batch.tokens == IMAGE_TOKEN] = torch.cat(readings)
    embedded = model.embed(replace(batch, order=order))[batch.tokens == IMAGE_TOKEN]
    expected, before = [], 0
    for reading, count in zip(readings, tiles, strict=True):
        own = torch.cat([features[before * VISUAL :], model.newline.weight])
        expected.append(own[reading])
        before += count
    assert torch.allclose(embedded, torch.cat(expected))
    with pytest.raises(ValueError, match="places for visual tokens"):
        model.embed(asking([[IMAGE_TOKEN]], pixels, tiles=(sum(tiles),)))
    model.save(tmp_path / "model")
    loaded = CuveeModel.load(tmp_path / "model")
    assert loaded.newline is not None
    assert torch.equal(loaded.newline.weight, model.newline.weight)
    model(batch_of([[sample(6, 0, 1)]], 12)).backward()
    assert model.newline.weight.grad is not None


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sights")
    ingest(
        Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=12)), folder / "catalog"
    )
    make_tokenizer(folder / "tok")
    return folder


@pytest.mark.parametrize("name", ["unpad", "shaped", "fine"])
def test_a_plan_its_batches_and_the_model_agree(road: Path, name: str) -> None:
    policy = {"unpad": UNPAD, "shaped": SHAPED, "fine": FINE}[name]
    mixture = Mixture.model_validate(
        {
            "name": name,
            "budget": {"epochs": 1},
            "sources": [{"source": "vqav2"}],
            "encoder": {"tokenizer": road / "tok"},
            "image": policy.model_dump(),
            "packing": {"tokens": 96, "packs_per_step": 2},
        }
    )
    encode(Catalog.open(road / "catalog"), mixture.encoder)
    plan = Plan.build(Catalog.open(road / "catalog"), mixture)
    more = {"shaped": {"connector": ASKING["resampler"]}, "fine": BRANCH}.get(name, {})
    model = build(ImagePolicy.model_validate(plan.header["recipe"]["image"]), **more)
    model.language.resize_token_embeddings(1000)
    for batch in PlanLoader(plan, workers=2):
        packs = plan.step(batch.step).packs
        assert (batch.segments > 0).sum(1).tolist() == [pack.tokens for pack in packs]
        assert batch.tiles == tuple(pack.tiles for pack in packs)
        assert (batch.order is None, batch.grids is None, batch.fine is None) == (
            name != "unpad",
            name != "shaped",
            name != "fine",
        )
        whole = model(batch)
        pieces = [model(piece).item() for piece in split(batch, 1)]
        assert whole.item() == pytest.approx(sum(pieces), rel=1e-5)


def test_what_does_not_fit_together_is_explained() -> None:
    with pytest.raises(UserError, match=r"patches of 4 pixels.*connector is mlp"):
        build(SHAPED)
    with pytest.raises(UserError, match="tokens of resampler have no places"):
        build(UNPAD, connector=ASKING["resampler"])
    for policy, more in ((FINE, {}), (replace_fine(), BRANCH)):
        with pytest.raises(UserError, match="belong together"):
            build(policy, **more)
    with pytest.raises(UserError, match="8 does not divide among 3 heads"):
        build(FINE, fine={**BRANCH["fine"], "heads": 3})
    assert set(ASKING) < {choice["kind"] for choice in CHOICES.values()}
