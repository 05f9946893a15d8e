"""One cross-attention from a grid of learned queries to the patches, both with codes of their places.

Qwen-VL's adapter, https://arxiv.org/abs/2308.12966, section 2.1; the compression layer of MiniCPM-V,
https://arxiv.org/abs/2408.01800, section 3.1.
"""

import math

import torch
from torch import Tensor, nn

from model.connector.attention import Attention, places
from model.connector.config import Resampler


class ResamplerConnector(nn.Module):
    """Always `grid**2` visual tokens, whatever the patches."""

    def __init__(self, config: Resampler, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.width = language
        self.queries = nn.Parameter(torch.randn(config.grid**2, language) * 0.02)
        self.features = nn.Linear(vision, language, bias=False)
        self.norm_queries = nn.LayerNorm(language)
        self.norm_features = nn.LayerNorm(language)
        self.attention = Attention(language, config.heads)
        self.norm = nn.LayerNorm(language)
        self.project = nn.Linear(language, language, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, vision) -> (N, grid**2, language)."""
        side = math.isqrt(patches.shape[1])
        features = self.norm_features(self.features(patches))
        asking = self.norm_queries(self.queries)
        asking = asking + self._places(self.config.grid, side, asking)
        seen = self.attention(
            asking.expand(len(patches), -1, -1),
            features + self._places(side, side, features),
            features,
        )
        tokens: Tensor = self.project(self.norm(seen))
        return tokens

    def _places(self, side: int, extent: int, like: Tensor) -> Tensor:
        return places(side, self.width, extent=extent).to(like)
