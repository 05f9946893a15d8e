"""A second, high-resolution look at each picture that enters decoder layers by cross-attention.

CogAgent, https://arxiv.org/abs/2312.08914, section 2.2: a small tower sees the picture finely; in each
decoder layer, between self-attention and MLP, tokens ask its features through a small hidden width.
Tokens ask the pictures of their own sample alone. The last layer of each begins at zero: the model
begins as the one without.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from catalog.errors import UserError
from model.config import Fine
from model.connector.build import Cost
from model.vision import Vision
from pipeline.batch import IMAGE_TOKEN, Batch


class Cross(nn.Module):
    """One decoder layer's questions to the features."""

    def __init__(self, config: Fine, language: int, features: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(language)
        self.query = nn.Linear(language, config.width)
        self.key, self.value = (nn.Linear(features, config.width) for _ in range(2))
        self.out = nn.Linear(config.width, language)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """(S, L, language), (S, K, features), (S, K) bool -> (S, L, language)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.norm(states)), self.key(features), self.value(features))
        )
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        asked: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return asked


class FineBranch(nn.Module):
    """A tower and its cross-attentions, put into a language model's layers by hooks."""

    def __init__(self, config: Fine, vision: Vision, language: Any, side: int) -> None:
        super().__init__()
        self.config, self.vision, self.side = config, vision, side
        layers = getattr(language.base_model, "layers", None)
        needed = ("self_attn", "input_layernorm")
        if layers is None or not all(hasattr(layer, n) for layer in layers for n in needed):
            raise UserError(
                f"fine: this language model's layers have no {' or no '.join(needed)}",
                fix="choose a model built like Llama or Qwen",
            )
        self.width = width = int(language.config.hidden_size)
        if config.width % config.heads:
            raise UserError(
                f"fine: a width of {config.width} does not divide among {config.heads} heads",
                fix="choose `fine.heads` that divides it",
            )
        chosen = [n for n in range(len(layers)) if n % config.every == 0]
        self.cross = nn.ModuleDict({str(n): Cross(config, width, vision.width) for n in chosen})
        self._seen = self._features = self._mask = torch.zeros(0)
        self._asking = self._pictures = torch.zeros(0)
        for number in chosen:
            self._hook(layers[number], self.cross[str(number)])

    @cached_property
    def shape(self) -> tuple[Cross, Cost]:
        """One cross-attention that has no memory, and what seeing a picture costs."""
        tower = self.vision.tower
        with torch.device("meta"):
            vision = Vision(type(tower)(tower.config)).requires_grad_(False)
            cross = Cross(self.config, self.width, vision.width).requires_grad_(False)
            pixels = torch.empty(1, 3, self.side, self.side)
        with FlopCounterMode(display=False) as counter:
            vision(pixels)
        parameters = sum(parameter.numel() for parameter in vision.parameters())
        return cross, Cost(tokens=0, parameters=parameters, flops=counter.get_total_flops())

    def _hook(self, layer: nn.Module, cross: nn.Module) -> None:
        entering: list[Tensor] = []

        def enters(module: nn.Module, args: tuple[Any, ...]) -> None:
            entering[:] = args

        def attended(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            # What the layer adds to its input is what the tokens would ask with.
            own, *rest = output
            return own + self._ask(cross, entering.pop() + own), *rest

        # Hooks inside the layer: gradient checkpointing runs its inside again.
        layer.input_layernorm.register_forward_pre_hook(enters)  # type: ignore[union-attr]
        layer.self_attn.register_forward_hook(attended)  # type: ignore[union-attr]

    def look(self, batch: Batch, pixels: Tensor) -> Tensor:
        """See a batch's pictures, (N, 3, F, F) float; return which of them each token may ask, (B, T).

        Tokens of one sample have one number, above 0 where the sample has a picture.
        """
        places = (batch.tokens == IMAGE_TOKEN).nonzero()
        each = len(places) // max(1, len(pixels))
        row, column = places[::each].T if len(pixels) else places.T
        numbers = batch.segments + torch.arange(len(batch.segments), device=row.device)[:, None] * (
            int(batch.segments.max()) + 1
        )
        numbers = numbers.masked_fill(batch.segments == 0, 0).long()
        self._pictures = numbers[row, column]
        # Without a picture one grey one is seen and added as zero: every rank runs the same graph.
        self._seen = self.vision(
            pixels if len(pixels) else pixels.new_zeros((1, 3, self.side, self.side))
        )
        return numbers

    def point(self, numbers: Tensor) -> None:
        """Say which tokens come next, (B, T), numbered as `look` did."""
        samples = torch.unique(self._pictures)
        if not len(samples):
            self._asking = torch.full((1, 1), -1, device=numbers.device)
            shown = torch.zeros((1, 1), dtype=torch.int64, device=numbers.device)
        else:
            flat = numbers.flatten()
            self._asking, shown = (
                pad_sequence(
                    [(of == sample).nonzero()[:, 0] for sample in samples],
                    batch_first=True,
                    padding_value=-1,
                )
                for of in (flat, self._pictures)
            )
        patches = self._seen.shape[1]
        self._mask = (shown >= 0).repeat_interleave(patches, dim=1)
        # Once for all layers: each that laid them out anew would keep its own copy.
        self._features = self._seen[shown.clamp(min=0)].flatten(1, 2)

    def _ask(self, cross: nn.Module, states: Tensor) -> Tensor:
        """(B, T, language) -> what is added to it."""
        flat, there = states.flatten(0, 1), self._asking >= 0
        at = self._asking.clamp(min=0)
        asked = cross(flat[at], self._features.to(states.dtype), self._mask) * there[..., None]
        # `index_add` would keep what it adds for the backward pass.
        added = torch.zeros_like(flat).index_put((at,), asked.to(flat.dtype), accumulate=True)
        return added.view_as(states)


def branch_cost(branch: FineBranch, tokens: int) -> Cost:
    """Return what a branch costs on a picture that so many tokens ask, without its memory."""
    cross, tower = branch.shape
    count = len(branch.cross)
    with torch.device("meta"):
        states = torch.empty(1, tokens, branch.width)
        features = torch.empty(1, branch.vision.patches(branch.side) ** 2, branch.vision.width)
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        cross(states, features, mask)
    return Cost(
        tokens=0,
        parameters=tower.parameters + count * sum(p.numel() for p in cross.parameters()),
        flops=tower.flops + count * counter.get_total_flops(),
    )
