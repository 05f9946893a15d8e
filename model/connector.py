"""Patch features -> visual tokens of the language model: merge, norm, two-layer MLP.

LLaVA 1.5's projector, https://arxiv.org/abs/2310.03744, with InternVL 1.5's pixel shuffle before it,
https://arxiv.org/abs/2404.16821, section 3.1.
"""

import math

from torch import Tensor, nn
from torch.nn import functional


class MLPConnector(nn.Module):
    """Makes `merge` x `merge` neighbouring patches one visual token."""

    def __init__(self, *, vision: int, language: int, merge: int = 1) -> None:
        super().__init__()
        self.merge = merge
        self.norm = nn.LayerNorm(vision * merge**2)
        self.first = nn.Linear(vision * merge**2, language)
        self.second = nn.Linear(language, language)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, vision) in reading order -> (N, P / merge**2, language) in reading order."""
        merged = merge_patches(patches, self.merge)
        tokens: Tensor = self.second(functional.gelu(self.first(self.norm(merged))))
        return tokens


def merge_patches(patches: Tensor, merge: int) -> Tensor:
    """Lay the features of `merge` x `merge` neighbours side by side.

    >>> import torch
    >>> merge_patches(torch.arange(16.0).view(1, 16, 1), 2)[0].int().tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """
    count, total, width = patches.shape
    side = math.isqrt(total)
    small = side // merge
    grid = patches.reshape(count, small, merge, small, merge, width).permute(0, 1, 3, 2, 4, 5)
    return grid.reshape(count, small * small, merge * merge * width)
