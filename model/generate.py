"""Prompts -> answers, greedily, with a cache of keys and values; location tokens become boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.batch import LOCATION_TOKEN, Batch
from pipeline.spots import SIDE

if TYPE_CHECKING:
    from model.vlm import CuveeModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer."""

    tokens: list[int] = field(default_factory=list)
    """Without the end; `LOCATION_TOKEN` where a location stands."""
    boxes: list[list[float]] = field(default_factory=list)
    """x0, y0, x1, y1 of each location, in fractions of the picture."""
    masks: list[Tensor] = field(default_factory=list)
    """(SIDE, SIDE) bool of each location, over its box."""


@torch.inference_mode()
def generate(
    model: "CuveeModel", batch: Batch, *, max_new_tokens: int, eos: int | Sequence[int]
) -> list[Said]:
    """Continue prompts, as `pipeline.batch.asking` lays them out.

    Args:
        model: on any device; set to evaluation.
        batch: the prompts; uint8 pixels, or float in -1..1.
        max_new_tokens: longest answer.
        eos: token or tokens that end an answer; left out of it.
    """
    model.eval()
    batch = batch.to(next(model.parameters()).device)
    ends = torch.tensor([eos] if isinstance(eos, int) else list(eos), device=batch.tokens.device)
    said = [Said() for _ in batch.tokens]
    table, head = (
        model.language.get_input_embeddings(),
        model.language.get_output_embeddings(),
    )
    inputs, mask, positions = model.embed(batch), (batch.segments > 0).long(), batch.positions
    asking = model.look(batch)
    cache: Any = None
    open_rows = torch.ones(len(said), dtype=torch.bool, device=mask.device)
    located = ~open_rows
    for step in range(max_new_tokens + 1):
        # After the last token one more look is due only where a location waits for its state.
        if (step == max_new_tokens or not open_rows.any()) and not located.any():
            break
        if model.fine is not None:
            model.fine.point(asking)
        seen = model.language.base_model(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        cache, last = seen.past_key_values, seen.last_hidden_state[:, -1]
        if located.any() and model.locations is not None:
            rows = located.nonzero()[:, 0].tolist()
            boxes = model.locations.boxes(last[located]).clamp(0, 1).tolist()
            cells = model.locations.cells(last[located]).view(-1, SIDE, SIDE) > 0
            for row, box, drawn in zip(rows, boxes, cells.cpu(), strict=True):
                said[row].boxes.append(box)
                said[row].masks.append(drawn)
        if step == max_new_tokens:
            break
        chosen = head(last).argmax(-1)
        open_rows = open_rows & ~torch.isin(chosen, ends)
        located = open_rows & (chosen == model.location)
        tokens = torch.where(located, LOCATION_TOKEN, chosen).tolist()
        for answer, token, still in zip(said, tokens, open_rows.tolist(), strict=True):
            if still:
                answer.tokens.append(token)
        inputs = table(chosen[:, None])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        positions, asking = positions[:, -1:] + 1, asking[:, -1:]
    return said
