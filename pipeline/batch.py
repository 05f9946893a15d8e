"""What the loader hands to the trainer: packed rows as tensors."""

from dataclasses import dataclass

from torch import Tensor

IGNORE = -100
"""Label of a position without loss."""
IMAGE_TOKEN = -1
"""Token id of a visual token's position."""


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
