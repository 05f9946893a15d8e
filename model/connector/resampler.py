"""One cross-attention from a grid of learned queries to the patches, both with codes of their places.

Qwen-VL's adapter, https://arxiv.org/abs/2308.12966, section 2.1; the compression layer of MiniCPM-V,
https://arxiv.org/abs/2408.01800, section 3.1.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.connector.attention import Attention, lattice, present
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

    def forward(self, patches: Tensor, grids: Tensor | None = None) -> Tensor:
        """(N, P, vision) -> (N, grid**2, language); the first patches are of a grid, others not seen."""
        features = self.norm_features(self.features(patches))
        mine, theirs = (code.to(features) for code in self._codes(grids, patches.shape[1]))
        asking = self.norm_queries(self.queries) + mine
        seen = self.attention(
            asking.expand(len(patches), -1, -1),
            features + theirs,
            features,
            None if grids is None else present(grids, patches.shape[1]),
        )
        tokens: Tensor = self.project(self.norm(seen))
        return tokens

    def _codes(self, grids: Tensor | None, cells: int) -> tuple[Tensor, Tensor]:
        """Return codes of queries and cells, (N or 1, ..., language): of squares without grids."""
        if grids is None:
            side = math.isqrt(cells)
            mine, theirs = self._places(side, side, cells)
            return mine[None], theirs[None]
        shapes, which = torch.unique(grids, dim=0, return_inverse=True)
        codes = [self._places(c, r, cells) for c, r in shapes.tolist()]
        asking, asked = zip(*codes, strict=True)
        return torch.stack(asking)[which], torch.stack(asked)[which]

    def _places(self, columns: int, rows: int, cells: int) -> tuple[Tensor, Tensor]:
        """Return codes of the queries, and of the cells of such a grid: two grids over one tile."""
        extent, grid = (columns, rows), self.config.grid
        theirs = lattice(extent, self.width, extent=extent)
        padded = functional.pad(theirs, (0, 0, 0, cells - len(theirs)))
        return lattice((grid, grid), self.width, extent=extent), padded
