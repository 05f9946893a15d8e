"""Neighbouring patches laid side by side, then a linear layer or an MLP.

LLaVA, https://arxiv.org/abs/2304.08485 and 2310.03744; MiniGPT-v2, https://arxiv.org/abs/2310.09478;
pixel shuffle of InternVL 1.5, https://arxiv.org/abs/2404.16821, section 3.1.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from model.connector.config import MLP, Linear


class LinearConnector(nn.Module):
    """Merge, then one linear layer."""

    def __init__(self, config: Linear, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(vision * config.merge**2, language)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, vision) in reading order -> (N, P / merge**2, language) in reading order."""
        tokens: Tensor = self.project(
            merge_patches(patches, self.config.merge, shape=self.config.shape)
        )
        return tokens


class MLPConnector(nn.Module):
    """Merge, norm, two layers with GELU between them."""

    def __init__(self, config: MLP, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(vision * config.merge**2)
        self.first = nn.Linear(vision * config.merge**2, language)
        self.second = nn.Linear(language, language)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, vision) in reading order -> (N, P / merge**2, language) in reading order."""
        merged = merge_patches(patches, self.config.merge, shape=self.config.shape)
        tokens: Tensor = self.second(functional.gelu(self.first(self.norm(merged))))
        return tokens


def merge_patches(
    patches: Tensor, merge: int, *, shape: Literal["square", "row"] = "square"
) -> Tensor:
    """Lay the features of `merge` x `merge` neighbours side by side, or of `merge**2` of a row.

    >>> import torch
    >>> merge_patches(torch.arange(16.0).view(1, 16, 1), 2)[0].int().tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """
    count, total, width = patches.shape
    if shape == "row":
        return patches.reshape(count, total // merge**2, merge**2 * width)
    return regions(patches, merge).flatten(2)


def regions(patches: Tensor, merge: int) -> Tensor:
    """(N, P, width) -> (N, P / merge**2, merge**2, width): the patches of each square region."""
    count, total, width = patches.shape
    side = math.isqrt(total)
    small = side // merge
    grid = patches.reshape(count, small, merge, small, merge, width).permute(0, 1, 3, 2, 4, 5)
    return grid.reshape(count, small * small, merge * merge, width)
