"""A querying transformer: learned queries see each other in every layer, the patches in every second.

BLIP-2, https://arxiv.org/abs/2301.12597, section 3.1; norms follow the sums, as in BERT.
"""

import torch
from torch import Tensor, nn

from model.connector.attention import Attention, FeedForward, present
from model.connector.config import QFormer


class QFormerConnector(nn.Module):
    """Always `queries` visual tokens, whatever the patches."""

    def __init__(self, config: QFormer, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.queries = nn.Parameter(torch.randn(config.queries, config.width) * 0.02)
        self.norm_queries, self.norm_features = nn.LayerNorm(config.width), nn.LayerNorm(vision)
        self.layers = nn.ModuleList(
            _Layer(config.width, config.heads, vision if number % config.every == 0 else None)
            for number in range(config.layers)
        )
        self.project = nn.Linear(config.width, language)

    def forward(self, patches: Tensor, grids: Tensor | None = None) -> Tensor:
        """(N, P, vision) -> (N, queries, language); the first patches are of a grid, others not seen."""
        seen = None if grids is None else present(grids, patches.shape[1])
        features = self.norm_features(patches)
        states = self.norm_queries(self.queries).expand(len(patches), -1, -1)
        for layer in self.layers:
            states = layer(states, features, seen)
        tokens: Tensor = self.project(states)
        return tokens


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, features: int | None) -> None:
        super().__init__()
        self.own, self.norm_own = Attention(width, heads), nn.LayerNorm(width)
        self.looks = features is not None
        if features is not None:
            self.cross, self.norm_cross = Attention(width, heads, features), nn.LayerNorm(width)
        self.feed, self.norm = FeedForward(width), nn.LayerNorm(width)

    def forward(self, states: Tensor, features: Tensor, seen: Tensor | None) -> Tensor:
        states = self.norm_own(states + self.own(states, states, states))
        if self.looks:
            states = self.norm_cross(states + self.cross(states, features, features, seen))
        out: Tensor = self.norm(states + self.feed(states))
        return out
