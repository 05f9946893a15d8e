"""How attention keeps the samples of a packed row apart: one mask, or their lengths.

Flash attention takes the samples one after the other (https://arxiv.org/abs/2307.08691); scaled dot-product
attention takes a mask. Given none, `transformers` makes one of truth values, of which every layer makes
numbers of its own, and keeps them for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor


def is_flash(config: Any) -> bool:
    """Tell whether a language model's attention is over variable lengths."""
    return "flash" in str(config._attn_implementation)


def apart(config: Any, segments: Tensor, embedded: Tensor) -> dict[str, Tensor]:
    """Return what a language model is told so that tokens see only those before them in their sample.

    Nothing where some of its layers see less than that: then restarting positions tell it alone.

    Args:
        config: of the language model.
        segments: (B, T), the sample of each token.
        embedded: (B, T, width), what the model will be given.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    narrow = getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None)
    if config._attn_implementation != "sdpa" or narrow or kinds != {"full_attention"}:
        return {}
    device = embedded.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embedded.dtype
    unseen = segments[:, :, None] != segments[:, None, :]
    unseen |= torch.ones_like(unseen[0]).triu(1)
    mask = torch.zeros(unseen.shape, dtype=kind, device=embedded.device)
    return {"attention_mask": mask.masked_fill_(unseen, float("-inf"))[:, None]}


def sample_lengths(positions: Tensor) -> dict[str, Any]:
    """Return what attention over variable lengths wants to know of samples one after the other.

    `transformers` hands it to `flash_attn_varlen_func`.

    >>> found = sample_lengths(torch.tensor([0, 1, 2, 0, 1]))
    >>> found["cu_seq_lens_q"].tolist(), found["max_length_q"]
    ([0, 3, 5], 3)
    """
    starts = (positions == 0).nonzero()[:, 0]
    bounds = torch.cat([starts, starts.new_tensor([len(positions)])]).int()
    longest = int(bounds.diff().max())
    return {f"cu_seq_lens_{who}": bounds for who in "qk"} | {
        f"max_length_{who}": longest for who in "qk"
    }
