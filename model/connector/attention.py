"""Cross-attention, and the places of patches as sines and cosines: shared by the asking connectors."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries over features."""

    def __init__(self, width: int, heads: int, features: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(features or width, width)
        self.value = nn.Linear(features or width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(..., Q, width), (..., K, features) twice -> (..., Q, width)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in (self.query(queries), self.key(keys), self.value(values))
        )
        seen = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(seen.transpose(-2, -3).flatten(-2))
        return out


class FeedForward(nn.Sequential):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def places(side: int, width: int, *, extent: int | None = None) -> Tensor:
    """Return fixed codes of a square grid's cells, (side**2, width): half for the row, half for the column.

    Args:
        side: cells a side.
        width: a multiple of 4.
        extent: the grid is stretched over so many units, so that two grids agree on where a place is.

    >>> places(2, 4).tolist()[0]
    [0.0, 1.0, 0.0, 1.0]
    """
    steps = torch.arange(side, dtype=torch.float64)
    if extent is not None:
        # Cells' centres: the middle of a coarse cell is the middle of the fine ones in it.
        steps = (steps + 0.5) * (extent / side) - 0.5
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = steps[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, -1).float()
