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

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None
    ) -> Tensor:
        """(..., Q, width), (..., K, features) twice -> (..., Q, width); keys where `seen`, (..., K)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in (self.query(queries), self.key(keys), self.value(values))
        )
        mask = None if seen is None else seen[..., None, None, :]
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out(found.transpose(-2, -3).flatten(-2))
        return out


class FeedForward(nn.Sequential):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def present(grids: Tensor, cells: int) -> Tensor:
    """Return which of the cells hold a patch, (N, cells) bool; `grids`, (N, 2), are columns and rows.

    >>> present(torch.tensor([[2, 1]]), 4).tolist()
    [[True, True, False, False]]
    """
    return torch.arange(cells, device=grids.device) < grids.prod(1, keepdim=True)


def places(side: int, width: int, *, extent: int | None = None) -> Tensor:
    """Return fixed codes of a square grid's cells, (side**2, width): half for the row, half for the column.

    Args:
        side: cells a side.
        width: a multiple of 4.
        extent: the grid is stretched over so many units, so that two grids agree on where a place is.

    >>> places(2, 4).tolist()[0]
    [0.0, 1.0, 0.0, 1.0]
    """
    return lattice((side, side), width, extent=(extent or side, extent or side))


def lattice(shape: tuple[int, int], width: int, *, extent: tuple[int, int]) -> Tensor:
    """Return the same of a grid of any shape, (columns * rows, width); both are (columns, rows)."""
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    lines = []
    for count, over in zip(shape, extent, strict=True):
        # Cells' centres: the middle of a coarse cell is the middle of the fine ones in it.
        steps = (torch.arange(count, dtype=torch.float64) + 0.5) * (over / count) - 0.5
        angles = steps[:, None] * rates
        lines.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    across, down = lines
    columns, rows = (
        across[None].expand(len(down), -1, -1),
        down[:, None].expand(-1, len(across), -1),
    )
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).float()
