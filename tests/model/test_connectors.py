"""Connectors: tokens as claimed, every weight learns, places are kept, a saved one is the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from catalog.errors import UserError
from model.config import RunConfig
from model.connector.attention import places
from model.connector.build import KINDS, build_connector, cost
from model.connector.config import Connector
from model.connector.merge import merge_patches
from model.vlm import CuveeModel
from pipeline.batch import IMAGE_TOKEN, asking
from tests.model.models import VISION, batch_of, sample, tiny, values
from tests.model.test_vlm import sharp, states

CHOICES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "merge": 2},
    "linear of a row": {"kind": "linear", "merge": 2, "shape": "row"},
    "mlp": {"kind": "mlp", "merge": 2},
    "region": {"kind": "region", "merge": 2, "heads": 4},
    "resampler": {"kind": "resampler", "grid": 2, "heads": 4},
    "perceiver": {"kind": "perceiver", "queries": 4, "layers": 2, "heads": 4},
    "qformer": {"kind": "qformer", "queries": 4, "layers": 3, "width": 24, "heads": 4},
}
"""Each makes 4 visual tokens of 4 x 4 patches."""
FIXED = {"resampler", "perceiver", "qformer"}


def config(choice: str) -> Connector:
    return TypeAdapter[Connector](Connector).validate_python(CHOICES[choice])


def test_every_kind_is_tried_here() -> None:
    assert {chosen["kind"] for chosen in CHOICES.values()} == set(KINDS)


@pytest.mark.parametrize("choice", CHOICES)
def test_tokens_are_as_claimed_and_every_weight_learns(choice: str) -> None:
    chosen = config(choice)
    for side in (4, 8):
        torch.manual_seed(0)
        connector = build_connector(chosen, vision=16, language=32)
        tokens = connector(torch.randn(3, side * side, 16))
        claimed = cost(chosen, vision=16, language=32, side=side)
        assert tokens.shape == (3, chosen.tokens(side), 32)
        assert claimed.tokens == chosen.tokens(side)
        assert claimed.parameters == sum(p.numel() for p in connector.parameters())
        assert claimed.flops > 0
        (tokens * torch.randn_like(tokens)).sum().backward()
        for name, parameter in connector.named_parameters():
            assert parameter.grad is not None, name
            # A key's bias adds the same to all scores of a query: softmax takes it away again.
            assert parameter.grad.any() or name.endswith("key.bias"), name


def test_operations_are_counted_as_by_hand() -> None:
    # 4 tokens through 64 -> 32 and 32 -> 32, a multiply-add counted twice.
    assert cost(config("mlp"), vision=16, language=32, side=4).flops == 2 * 4 * (64 * 32 + 32 * 32)
    # LLaVA 1.5 on CLIP ViT-L/14 at 336 with a 7B language model: 2-layer MLP of 1,024 -> 4,096.
    llava = TypeAdapter[Connector](Connector).validate_python({"kind": "mlp"})
    found = cost(llava, vision=1024, language=4096, side=24)
    assert found.tokens == 576
    assert found.parameters == 1024 * 4096 + 4096 + 4096**2 + 4096 + 2 * 1024
    assert found.flops == 2 * 576 * (1024 * 4096 + 4096**2)


@pytest.mark.parametrize("choice", ["linear", "mlp", "region"])
def test_a_token_comes_from_its_own_neighbourhood(choice: str) -> None:
    connector = build_connector(config(choice), vision=16, language=32)
    patches = torch.randn(1, 64, 16)
    before = connector(patches)
    for place in (0, 13, 63):
        changed = patches.clone()
        changed[0, place] += 1
        moved = (connector(changed) != before).any(-1)[0].nonzero().flatten().tolist()
        row, column = divmod(place, 8)
        assert moved == [row // 2 * 4 + column // 2]


def test_four_of_a_row_become_one() -> None:
    merged = merge_patches(torch.arange(16.0).view(1, 16, 1), 2, shape="row")
    assert merged[0].int().tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]


@pytest.mark.parametrize("choice", sorted(FIXED))
def test_only_the_resampler_knows_places_by_itself(choice: str) -> None:
    torch.manual_seed(0)
    connector = build_connector(config(choice), vision=16, language=32)
    patches = torch.randn(2, 16, 16)
    shuffled = patches[:, torch.randperm(16)]
    same = torch.allclose(connector(shuffled), connector(patches), atol=1e-5)
    assert same == (choice != "resampler")


def test_a_coarse_place_is_nearest_to_the_fine_places_inside_it() -> None:
    coarse, fine = places(2, 32, extent=8), places(8, 32)
    nearest = torch.cdist(fine, coarse).argmin(1)
    assert nearest.tolist() == [
        row // 4 * 2 + column // 4 for row in range(8) for column in range(8)
    ]
    assert len(set(map(tuple, places(8, 32).tolist()))) == 64


@pytest.mark.parametrize("choice", CHOICES)
def test_packed_is_alone_and_saved_is_loaded(choice: str, tmp_path: Path) -> None:
    model = sharp(tiny(connector=CHOICES[choice])).eval()
    rows = [[sample(6, 1, 0), sample(9, 2, 1)], [sample(5, 0, 2), sample(8, 1, 3)]]
    batch = batch_of(rows, 48)
    packed = states(model, batch)
    for row, samples in enumerate(rows):
        start = 0
        for ids, pictures in samples:
            alone = states(model, batch_of([[(ids, pictures)]], len(ids)))[0]
            assert torch.allclose(packed[row, start : start + len(ids)], alone, atol=1e-5)
            start += len(ids)
    model.save(tmp_path / "model")
    loaded = CuveeModel.load(tmp_path / "model").eval()
    assert loaded.connector.config == model.connector.config
    assert torch.equal(loaded(batch), model(batch))


def test_a_model_saved_before_kinds_is_read(tmp_path: Path) -> None:
    model = tiny().eval()
    model.save(tmp_path / "model")
    (tmp_path / "model/cuvee.json").write_text(json.dumps({"schema": 1, "side": 16, "merge": 2}))
    assert CuveeModel.load(tmp_path / "model").connector.config == model.connector.config


def test_a_pictureless_batch_reaches_every_kind() -> None:
    for choice in CHOICES.values():
        model = tiny(connector=choice)
        model(batch_of([[sample(9, 0, 0)]], 24)).backward()
        assert all(p.grad is not None for p in model.connector.parameters())


def test_what_does_not_fit_is_explained(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"grid of 3 x 3 queries: 9 visual tokens; the plan counts 4"
    ):
        tiny(connector={"kind": "resampler", "grid": 3})
    with pytest.raises(UserError, match=r"merged 9 of a row: 1\.77"):
        tiny(connector={"kind": "linear", "merge": 3, "shape": "row"})
    with pytest.raises(UserError, match="width of 32 does not divide among 5 heads"):
        tiny(connector={"kind": "perceiver", "queries": 4, "heads": 5})
    with pytest.raises(UserError, match="multiple of 4, not 6"):
        build_connector(
            TypeAdapter[Connector](Connector).validate_python({"kind": "resampler", "heads": 2}),
            vision=16,
            language=6,
        )
    text = "catalog: c\noutput: o\nvision: {config: {}}\nlanguage: {path: lm}\nconnector:\n  kind: mpl\n"
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(
        UserError, match=r"line 5, field connector: has the kind 'mpl'.*\nFix: .*'mlp'"
    ):
        RunConfig.load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(text.replace("mpl", "qformer\n  querys: 3"))
    with pytest.raises(
        UserError, match=r"line 7, field connector.querys: no such field\nFix: .*'queries'"
    ):
        RunConfig.load(tmp_path / "run.yaml")


@pytest.mark.parametrize(("side", "tokens"), [(224, 256), (336, 576), (448, 1024)])
def test_patches_of_a_vit_l_14(side: int, tokens: int) -> None:
    model = tiny(vision={"config": {**VISION, "patch_size": 4}})
    model.vision.tower.config.patch_size = 14
    assert model.vision.patches(side) ** 2 == tokens


def test_run_files_and_models_use_the_same_union() -> None:
    run = RunConfig.model_validate(values(connector=CHOICES["qformer"]))
    assert run.connector == config("qformer")
    assert tiny(connector={"merge": 2}).connector.config.kind == "mlp"
    visual = tiny(connector=CHOICES["region"]).embed(
        asking([[IMAGE_TOKEN] * 4], torch.zeros(1, 3, 16, 16))
    )
    assert visual.shape == (1, 4, 32)
