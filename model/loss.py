"""What is learnt at each place of packed rows, and how much it counts."""

import torch
from torch import Tensor

from model.config import Weighting
from pipeline.batch import IGNORE

POWER = {"token": 0.0, "sqrt": 0.5, "sample": 1.0}
"""A token of a sample with n learnt tokens counts n ** -power."""


def targets(labels: Tensor, segments: Tensor) -> Tensor:
    """Return the label of the token after each position, (B, T); a sample's first is never predicted."""
    following = torch.full_like(labels, IGNORE)
    following[:, :-1] = torch.where(segments[:, 1:] == segments[:, :-1], labels[:, 1:], IGNORE)
    return following


def weights(following: Tensor, segments: Tensor, weighting: Weighting) -> Tensor:
    """Return how much each target counts, (B, T) float32; 0 where nothing is learnt.

    Their sum over a step is the loss's divisor: samples count alike however they were packed.

    >>> labels, segments = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 1, 1, 1, 2]])
    >>> weights(labels, segments, "sqrt").tolist()
    [[0.5, 0.5, 0.5, 0.5, 1.0]]
    """
    learnt = (following != IGNORE).float()
    if weighting == "token":
        return learnt
    places = segments.long()
    counts = torch.zeros(len(places), int(places.max()) + 1, device=places.device)
    counts.scatter_add_(1, places, learnt)
    return learnt * counts.clamp(min=1).gather(1, places) ** -POWER[weighting]
