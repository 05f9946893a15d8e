"""What the loader hands to the trainer: packed rows as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

IGNORE = -100
"""Label of a position without loss."""
IMAGE_TOKEN = -1
"""Token id of a visual token's position."""
LOCATION_TOKEN = -2
"""Token id, and label, of a location (`pipeline.spots`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B packed rows of T tokens, with N picture tiles of side S among them."""

    tokens: Tensor
    """(B, T) int64; `IMAGE_TOKEN` where a visual token stands, 0 where there is padding."""
    labels: Tensor
    """(B, T) int64; the token at its own position where it is learnt, else `IGNORE`."""
    positions: Tensor
    """(B, T) int64, from 0 in each sample."""
    segments: Tensor
    """(B, T) int32: 0 is padding, 1.. numbers the sample; attention never crosses it."""
    pixels: Tensor
    """(N, 3, S, S) in the order of the visual tokens: uint8 from the loader, so that a quarter of the
    bytes moves to the device; the model makes float32 in -1..1 of it. Channels last in memory."""
    step: int
    packs: tuple[int, ...]
    """Places of the rows among the packs of the step."""
    loss_tokens: int
    """Learnt tokens of the whole step, over all ranks: the divisor of the loss."""
    samples: int
    spots: Tensor | None = None
    """(B, T, 115) uint8, with location tokens: what each of them points at, as `pipeline.spots` has it."""

    tiles: tuple[int, ...] = ()
    """Tiles of each row."""
    order: Tensor | None = None
    """(B, T) int64, where padding is cut away: at each visual token's place the feature that stands
    there, numbered through the tiles of its row, or -1 for a newline."""
    grids: Tensor | None = None
    """(N, 2) int64, where tiles keep their shape: their columns and rows of patches."""
    fine: Tensor | None = None
    """(N, 3, F, F), where there is a finer look: what each tile shows."""

    def narrow(self, width: int) -> "Batch":
        """Return only the first columns of all rows."""
        return self._cut(slice(None), slice(width))

    def rows(self, start: int, end: int) -> "Batch":
        """Return only these rows, with their pictures."""
        bounds = [0, *accumulate(self.tiles)]
        shown = slice(bounds[start], bounds[min(end, len(self.packs))])
        pictures: dict[str, Any] = {"pixels": self.pixels[shown], "tiles": self.tiles[start:end]}
        for name in ("grids", "fine"):
            if (tensor := getattr(self, name)) is not None:
                pictures[name] = tensor[shown]
        return replace(
            self._cut(slice(start, end), slice(None)), packs=self.packs[start:end], **pictures
        )

    def _cut(self, rows: slice, columns: slice) -> "Batch":
        names = ("tokens", "labels", "positions", "segments", "spots", "order")
        cut: dict[str, Any] = {
            name: tensor[rows, columns]
            for name in names
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **cut)

    def to(self, device: torch.device | str) -> "Batch":
        """Return it on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def asking(prompts: Sequence[Sequence[int]], pixels: Tensor, **more: Any) -> Batch:
    """Return prompts as rows that end at the same place, where answers go on; nothing is learnt."""
    length = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros((len(prompts), length), dtype=torch.int64)
    segments = torch.zeros((len(prompts), length), dtype=torch.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = torch.tensor(prompt)
        segments[row, length - len(prompt) :] = 1
    return Batch(
        tokens=tokens,
        labels=torch.full_like(tokens, IGNORE),
        positions=(segments.cumsum(1) - 1).clamp(min=0),
        segments=segments,
        pixels=pixels,
        step=0,
        packs=tuple(range(len(prompts))),
        loss_tokens=0,
        samples=len(prompts),
        **more,
    )
