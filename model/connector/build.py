"""A connector of the kind the run file names, and what it costs."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from catalog.errors import UserError
from model.connector.config import Connector
from model.connector.merge import LinearConnector, MLPConnector
from model.connector.perceiver import PerceiverConnector
from model.connector.qformer import QFormerConnector
from model.connector.region import RegionConnector
from model.connector.resampler import ResamplerConnector
from model.transfer import Carried

KINDS: dict[str, Any] = {
    "linear": LinearConnector,
    "mlp": MLPConnector,
    "region": RegionConnector,
    "resampler": ResamplerConnector,
    "perceiver": PerceiverConnector,
    "qformer": QFormerConnector,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a connector costs."""

    tokens: int
    """Visual tokens a tile."""
    parameters: int
    flops: int
    """Floating-point operations of a tile's forward pass; a multiply-add is two."""

    def __str__(self) -> str:
        return (
            f"{self.tokens} tokens a tile, {self.parameters:,} parameters, "
            f"{self.flops / 1e9:,.4g} GFLOP a tile"
        )


def build_connector(
    config: Connector, *, vision: int, language: int, inner: int | None = None
) -> nn.Module:
    """Return a connector from features of width `vision` to tokens of width `language`.

    With `inner` it is one for a language model of that width, and a linear layer follows.

    Raises:
        UserError: its width does not divide among its heads, or holds no codes of places.
    """
    if inner is not None:
        return Carried(build_connector(config, vision=vision, language=inner), inner, language)
    heads, width = getattr(config, "heads", 1), getattr(config, "width", language)
    if width % heads:
        raise UserError(
            f"connector: a width of {width} does not divide among {heads} heads",
            fix="choose `connector.heads` that divides it",
        )
    if config.kind == "resampler" and language % 4:
        raise UserError(
            f"connector: codes of places need a width that is a multiple of 4, not {language}",
            fix="choose another language model, or another `connector.kind`",
        )
    connector: nn.Module = KINDS[config.kind](config, vision=vision, language=language)
    return connector


@lru_cache
def cost(
    config: Connector, *, vision: int, language: int, side: int, inner: int | None = None
) -> Cost:
    """Return what a connector costs on a tile of `side` x `side` patches, without its memory."""
    with torch.device("meta"):
        connector = build_connector(config, vision=vision, language=language, inner=inner)
        connector.requires_grad_(False)
        patches = torch.empty(1, side * side, vision)
    with FlopCounterMode(display=False) as counter:
        tokens = connector(patches)
    return Cost(
        tokens=tokens.shape[1],
        parameters=sum(parameter.numel() for parameter in connector.parameters()),
        flops=counter.get_total_flops(),
    )
