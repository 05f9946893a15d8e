"""Learned queries through several layers: each looks at the patches and at the queries themselves.

Perceiver resampler of Flamingo, https://arxiv.org/abs/2204.14198, figure 5, as Idefics2 takes it,
https://arxiv.org/abs/2405.02246, section 3.2: an MLP to the language model's width comes first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.connector.attention import Attention, FeedForward, present
from model.connector.config import Perceiver


class PerceiverConnector(nn.Module):
    """Always `queries` visual tokens, whatever the patches."""

    def __init__(self, config: Perceiver, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            nn.Linear(vision, language), nn.GELU(), nn.Linear(language, language)
        )
        self.queries = nn.Parameter(torch.randn(config.queries, language) * 0.02)
        self.layers = nn.ModuleList(_Layer(language, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(language)

    def forward(self, patches: Tensor, grids: Tensor | None = None) -> Tensor:
        """(N, P, vision) -> (N, queries, language); the first patches are of a grid, others not seen."""
        features = self.features(patches)
        seen = None
        if grids is not None:
            seen = functional.pad(
                present(grids, patches.shape[1]), (0, len(self.queries)), value=True
            )
        asking = self.queries.expand(len(patches), -1, -1)
        for layer in self.layers:
            asking = layer(asking, features, seen)
        tokens: Tensor = self.norm(asking)
        return tokens


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_queries, self.norm_features = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed = FeedForward(width)

    def forward(self, queries: Tensor, features: Tensor, seen: Tensor | None) -> Tensor:
        asking = self.norm_queries(queries)
        asked = torch.cat([self.norm_features(features), asking], dim=1)
        queries = queries + self.attention(asking, asked, asked, seen)
        out: Tensor = queries + self.feed(self.norm(queries))
        return out
