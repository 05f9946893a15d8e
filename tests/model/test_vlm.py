"""The model: samples in a row never see each other, and a cache changes no answer."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.utils.import_utils import is_flash_attn_2_available

from catalog.errors import UserError
from model.config import RunConfig
from model.generate import generate
from model.language import ENDS
from model.vlm import CuveeModel
from pipeline.batch import IMAGE_TOKEN, Batch, asking
from pipeline.policy import ImagePolicy
from tests.model.models import LANGUAGE, SIDE, VISION, VOCABULARY, batch_of, sample, tiny, values

SHAPES = st.lists(st.tuples(st.integers(3, 12), st.integers(0, 2)), min_size=1, max_size=6)
CLIP = {"vision": {"config": {**VISION, "model_type": "clip_vision_model"}}}
LLAMA = {"language": {"config": {**LANGUAGE, "model_type": "llama"}}}
KINDS: dict[str, dict[str, Any]] = {
    "sdpa": {},
    "eager": {"attention": "eager"},
    "checkpointed": {"gradient_checkpointing": True},
    "clip": CLIP,
    "llama": LLAMA,
}


def sharp(model: CuveeModel) -> CuveeModel:
    """Make the weights larger, so that a leak shows."""
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def states(model: CuveeModel, batch: Batch) -> torch.Tensor:
    """Return the last hidden states, by the very call that the loss makes."""
    caught: list[torch.Tensor] = []

    def catch(module: nn.Module, inputs: tuple[()], output: Any) -> None:
        caught.append(output.last_hidden_state)

    handle = model.language.base_model.register_forward_hook(catch)
    model(batch)
    handle.remove()
    return caught[0].detach()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_packed_is_the_sample_alone(kind: str, training: bool) -> None:
    model = sharp(tiny(**KINDS[kind])).train(training)

    @settings(max_examples=8, deadline=None)
    @given(SHAPES, SHAPES)
    def check(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
        rows = [
            [sample(text, pictures, seed) for seed, (text, pictures) in enumerate(shapes, start)]
            for start, shapes in ((0, first), (100, second))
        ]
        batch = batch_of(rows, 160)
        packed = states(model, batch)
        total = 0.0
        for row, samples in enumerate(rows):
            start = 0
            for ids, pictures in samples:
                alone = batch_of([[(ids, pictures)]], len(ids))
                together = packed[row, start : start + len(ids)]
                assert torch.allclose(together, states(model, alone)[0], atol=1e-5)
                start += len(ids)
                total += model(alone).item()
        assert model(batch).item() == pytest.approx(total, rel=1e-5)

    check()


def test_what_keeps_samples_apart_is_made_once_for_all_layers() -> None:
    model = tiny(language={"config": {**LANGUAGE, "num_hidden_layers": 6}})
    batch = batch_of([[sample(30, 0, seed) for seed in range(4)]], 128)
    width = int((batch.segments > 0).sum())
    found: set[int] = set()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[-2:] == (width, width):
            found.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = model(batch)
    assert len(found) == 1
    assert held.requires_grad


def test_layers_that_see_less_than_their_sample_still_do() -> None:
    config = {**LANGUAGE, "model_type": "mistral", "sliding_window": 4}
    windowed = sharp(tiny(language={"config": config}))
    whole = sharp(tiny(language={"config": {**config, "sliding_window": None}}))
    batch = batch_of([[sample(20, 0, 0), sample(12, 0, 1)]], 40)
    assert torch.allclose(states(windowed, batch)[0, :4], states(whole, batch)[0, :4], atol=1e-5)
    assert not torch.allclose(states(windowed, batch)[0, 4:20], states(whole, batch)[0, 4:20])
    alone = states(windowed, batch_of([[sample(12, 0, 1)]], 12))[0]
    assert torch.allclose(states(windowed, batch)[0, 20:32], alone, atol=1e-5)


def varlen_twin(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What `flash_attn_varlen_func` computes, from the same bounds: (1, heads, T, width) each."""
    bounds = cu_seq_lens_q.tolist()
    assert max_length_q == max(end - start for start, end in pairwise(bounds))
    pieces = [
        functional.scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            is_causal=True,
            enable_gqa=True,
        )
        for start, end in pairwise(bounds)
    ]
    return torch.cat(pieces, 2).transpose(1, 2), None


FLASH = torch.cuda.is_available() and is_flash_attn_2_available()
ON_GPU = pytest.mark.skipif(not FLASH, reason="flash-attention needs a GPU and `flash-attn`")


@pytest.mark.parametrize(
    ("attention", "device", "kind", "near"),
    [
        ("flash_twin", "cpu", torch.float32, 1e-5),
        pytest.param("flash_attention_2", "cuda", torch.bfloat16, 2e-2, marks=ON_GPU),
    ],
)
def test_rows_joined_without_padding_have_the_same_loss_and_gradients(
    attention: str, device: str, kind: torch.dtype, near: float
) -> None:
    AttentionInterface.register("flash_twin", varlen_twin)
    AttentionMaskInterface.register("flash_twin", lambda *_, **__: None)
    model = sharp(tiny(language={"config": {**LANGUAGE, "hidden_size": 64}})).to(device, kind)
    batch = batch_of([[sample(9, 1, 0), sample(5, 0, 1)], [], [sample(7, 2, 2)]], 40)
    batch = batch.to(torch.device(device))

    def learnt() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = model(batch)
        loss.backward()
        return loss.item(), [p.grad.float() for p in model.parameters() if p.grad is not None]

    expected, gradients = learnt()
    model.language.config._attn_implementation = attention
    assert states(model, batch).shape[:2] == (1, 9 + 4 + 5 + 7 + 8)
    found, others = learnt()
    assert found == pytest.approx(expected, rel=near)
    # Some gradients are zero but for rounding: all are measured by the largest.
    largest = max(float(gradient.norm()) for gradient in gradients)
    for mine, other in zip(gradients, others, strict=True):
        assert mine.sub(other).norm() <= near * largest


@pytest.mark.parametrize("rows", [[[], []], [[sample(9, 0, 0)]], [[sample(9, 0, 0)], []]])
def test_no_picture_and_no_sample_still_reach_every_parameter(rows: Any) -> None:
    model = tiny()
    loss = model(batch_of(rows, 24))
    loss.backward()
    assert torch.isfinite(loss)
    assert (loss == 0) == (not any(rows))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.startswith("language"):
            assert not parameter.grad.any(), name


@pytest.mark.parametrize("kind", ["sdpa", "clip"])
def test_every_part_learns_but_frozen_ones(kind: str) -> None:
    model = tiny(**KINDS[kind], freeze=["language"])
    model(batch_of([[sample(9, 2, 0)]], 24)).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("language"):
            assert parameter.grad is None, name
        elif parameter.requires_grad:
            assert parameter.grad is not None, name
    idle = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert [name for name in idle if not name.startswith("language")] == (
        [] if kind == "sdpa" else [name for name in idle if "post_layernorm" in name]
    )


def test_batched_generation_is_greedy_search_without_a_cache() -> None:
    model = sharp(tiny()).eval()
    prompts = [sample(6, 1, 0), sample(11, 0, 1), sample(4, 2, 2)]
    pixels = torch.cat([pictures for _, pictures in prompts])
    expected = []
    for ids, pictures in prompts:
        tokens = list(ids)
        for _ in range(8):
            inputs = model.embed(asking([tokens], pictures))
            logits = model.language(inputs_embeds=inputs, use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
        expected.append(tokens[len(ids) :])
    asked = [tokens for tokens, _ in prompts]
    never = min(set(range(VOCABULARY)) - {token for answer in expected for token in answer})
    batch = asking(asked, pixels)
    said = generate(model, batch, max_new_tokens=8, eos=never)
    assert [answer.tokens for answer in said] == expected
    end = expected[0][3]
    cut = [answer[: answer.index(end)] if end in answer else answer for answer in expected]
    said = generate(model, batch, max_new_tokens=8, eos=[never, end])
    assert [answer.tokens for answer in said] == cut


@pytest.mark.parametrize("kind", ["sdpa", "clip", "llama"])
def test_a_saved_model_is_the_model(tmp_path: Path, kind: str) -> None:
    model = tiny(**KINDS[kind]).eval()
    model.save(tmp_path / "model")
    loaded = CuveeModel.load(tmp_path / "model").eval()
    batch = batch_of([[sample(9, 1, 0), sample(5, 0, 1)]], 24)
    assert torch.equal(loaded(batch), model(batch))
    # Parts of one run are parts of the next.
    again = tiny(
        vision={"path": str(tmp_path / "model/vision")},
        language={"path": str(tmp_path / "model/language")},
    )
    again.connector.load_state_dict(model.connector.state_dict())
    assert torch.equal(again.eval()(batch), model(batch))


def test_the_seed_makes_the_weights() -> None:
    one, same, other = (tiny(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_a_larger_tokenizer_enlarges_a_loaded_model(tmp_path: Path) -> None:
    tiny().save(tmp_path / "model")
    config = RunConfig.model_validate(values(language={"path": str(tmp_path / "model/language")}))
    model = CuveeModel.build(config, ImagePolicy(size=SIDE, tokens=4), VOCABULARY + 7)
    assert model.language.get_output_embeddings().out_features == VOCABULARY + 7


def test_what_does_not_fit_is_explained_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="merged 1 x 1: 16 visual tokens; the plan counts 4"):
        tiny(connector={"merge": 1})
    with pytest.raises(UserError, match=r"4 x 4 patches, merged 3 x 3.*1\.77"):
        tiny(connector={"merge": 3})
    for part in ("vision", "language"):
        with pytest.raises(UserError, match=r"no config.json there"):
            tiny(**{part: {"path": str(tmp_path)}})
    with pytest.raises(UserError, match="unknown model_type 'vit'"):
        tiny(vision={"config": {"model_type": "vit"}})
    with pytest.raises(UserError, match="language: "):
        tiny(language={"config": {"model_type": "no such"}})
    with pytest.raises(UserError, match="train to the end first"):
        CuveeModel.load(tmp_path)
    with pytest.raises(ValueError, match="3 places for visual tokens, 4 visual tokens"):
        tiny().embed(asking([[1] + [IMAGE_TOKEN] * 3], torch.zeros(1, 3, SIDE, SIDE)))


def test_another_tile_size_interpolates_the_positions(tmp_path: Path) -> None:
    tiny().save(tmp_path / "model")
    config = RunConfig.model_validate(values(vision={"path": str(tmp_path / "model/vision")}))
    model = CuveeModel.build(config, ImagePolicy(size=24, tokens=9), VOCABULARY)
    visual = model.embed(asking([[IMAGE_TOKEN] * 9], torch.zeros(1, 3, 24, 24)))
    assert visual.shape == (1, 9, 32)


def test_a_tower_without_residual_branches_begins_as_the_identity() -> None:
    model = tiny(
        vision={"config": VISION, "residual": 0.0}, language={"config": LANGUAGE, "residual": 0.0}
    )
    inputs = torch.randn(1, 5, LANGUAGE["hidden_size"])
    base = model.language.base_model
    assert torch.equal(base(inputs_embeds=inputs).last_hidden_state, base.norm(inputs))
    whole = tiny().language.base_model
    assert not torch.allclose(whole(inputs_embeds=inputs).last_hidden_state, whole.norm(inputs))
    ends = [p for name, p in model.vision.named_parameters() if name.endswith(ENDS)]
    assert ends
    assert not any(p.any() for p in ends)
