"""Pix2emb: a location token's hidden state -> a box and a mask; a given box -> an embedding.

NExT-Chat, https://arxiv.org/abs/2311.04498, section 3. The state at the token's own place is decoded.
Boxes are x0, y0, x1, y1 in fractions of the picture; masks are cells over the box.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import Locations
from pipeline.spots import SIDE, SPOT

OCTAVES = 8
"""Waves that a coordinate enters as: half precision alone would keep two digits of it."""


class LocationCoder(nn.Module):
    """The location token's encoder, and its decoders to boxes and masks."""

    def __init__(self, config: Locations, width: int, token: int) -> None:
        super().__init__()
        self.config, self.token = config, token
        self.encoder = nn.Sequential(
            nn.Linear(4 * 2 * OCTAVES, width), nn.GELU(), nn.Linear(width, width)
        )
        self.box = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4))
        start = SIDE // 4
        self.mask = nn.Sequential(
            nn.Linear(width, 32 * start**2),
            nn.Unflatten(1, (32, start, start)),
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(16, 1, 2, stride=2),
            nn.Flatten(),
        )

    def encode(self, boxes: Tensor) -> Tensor:
        """(L, 4) float32 -> (L, width)."""
        rates = math.pi * 2.0 ** torch.arange(OCTAVES, device=boxes.device)
        waves = (boxes[..., None] * rates).flatten(1)
        features = torch.cat([waves.sin(), waves.cos()], dim=1)
        embedded: Tensor = self.encoder(features.to(next(self.encoder.parameters()).dtype))
        return embedded

    def boxes(self, states: Tensor) -> Tensor:
        """(L, width) -> (L, 4) float32, corners in order."""
        middle, size = self.box(states).float().sigmoid().split(2, dim=-1)
        return torch.cat([middle - size / 2, middle + size / 2], dim=-1)

    def cells(self, states: Tensor) -> Tensor:
        """(L, width) -> (L, SIDE * SIDE) float32: above 0 where a box's cell is of the object."""
        return self.mask(states).float()  # type: ignore[no-any-return]

    def loss(self, states: Tensor, spots: Tensor) -> Tensor:
        """Return (L,) float32: what each state, (L, width), is wrong about its spot, (L, 115)."""
        boxes, masked, cells = read_spots(spots)
        found, weights = self.boxes(states), self.config
        again = self.boxes(self.encode(boxes))
        drawn = functional.binary_cross_entropy_with_logits(
            self.cells(states), cells, reduction="none"
        )
        return (
            weights.l1 * (found - boxes).abs().sum(1)
            + weights.giou * (1 - giou(found, boxes))
            + weights.mask * masked * drawn.mean(1)
            + weights.cycle * (again - boxes).abs().sum(1)
        )


def read_spots(spots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(L, 115) uint8 -> boxes (L, 4), which have a mask (L,), its cells (L, SIDE * SIDE); float32."""
    edges = [SPOT.fields[name][1] for name in SPOT.names]  # type: ignore[index, union-attr]
    box, masked, packed = (spots[:, a:b] for a, b in zip(edges, [*edges[1:], None], strict=True))
    bits = packed[..., None] >> torch.arange(7, -1, -1, device=spots.device) & 1
    numbers = box.flatten().clone().view(torch.float32).view(-1, 4)
    return numbers, masked[:, 0].float(), bits.flatten(1).float()


def giou(found: Tensor, true: Tensor) -> Tensor:
    """Return the generalised IoU of boxes (L, 4), one by one: https://arxiv.org/abs/1902.09630.

    >>> boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]])
    >>> giou(boxes, torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])).tolist()
    [1.0, -0.5]
    """
    inner = (
        torch.minimum(found[:, 2:], true[:, 2:]) - torch.maximum(found[:, :2], true[:, :2])
    ).clamp(min=0)
    outer = torch.maximum(found[:, 2:], true[:, 2:]) - torch.minimum(found[:, :2], true[:, :2])
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (found, true)]
    both, hull = inner.prod(1), outer.prod(1).clamp(min=1e-9)
    union = (areas[0] + areas[1] - both).clamp(min=1e-9)
    return both / union - (hull - union) / hull
