"""Tiles -> patch features: a SigLIP or CLIP vision tower of `transformers`."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from catalog.errors import UserError
from model.config import Tower
from model.connector.attention import present
from model.language import damp

KINDS = {"siglip_vision_model": "SiglipVisionModel", "clip_vision_model": "CLIPVisionModel"}


class Vision(nn.Module):
    """A vision tower that gives the features of all patches of a tile, in reading order."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        self.has_class_token = tower.config.model_type == "clip_vision_model"
        if self.has_class_token:
            # CLIP normalises only the pooled output, which is not used: it would get no gradient.
            getattr(tower, "vision_model", tower).post_layernorm.requires_grad_(False)

    @property
    def width(self) -> int:
        """Features a patch."""
        return int(self.tower.config.hidden_size)

    def patches(self, side: int) -> int:
        """Return the patches along the side of a tile of `side` pixels."""
        return side // int(self.tower.config.patch_size)

    def forward(self, pixels: Tensor, grids: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) -> (N, patches, width).

        With `grids`, (N, 2), the patches that lie in the square row by row are those of so many columns
        and rows: they have the places of that grid, and what is left of the square is seen by none.
        """
        dtype = next(self.parameters()).dtype
        if grids is not None:
            return self._shaped(pixels.to(dtype), grids)
        stretch = pixels.shape[-1] != self.tower.config.image_size
        states = self.tower(pixels.to(dtype), interpolate_pos_encoding=stretch).last_hidden_state
        features: Tensor = states[:, 1:] if self.has_class_token else states
        return features

    def _shaped(self, pixels: Tensor, grids: Tensor) -> Tensor:
        inner = getattr(self.tower, "vision_model", self.tower)
        patches = inner.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        table = inner.embeddings.position_embedding.weight
        if self.has_class_token:
            first = inner.embeddings.class_embedding + table[0]
            table = table[1:]
        shapes, which = torch.unique(grids, dim=0, return_inverse=True)
        cells = patches.shape[1]
        places = torch.stack([self._places(table, c, r, cells) for c, r in shapes.tolist()])
        states = patches + places[which].to(patches.dtype)
        seen = present(grids, patches.shape[1])
        if self.has_class_token:
            states = torch.cat([first.expand(len(states), 1, -1), states], dim=1)
            seen = functional.pad(seen, (1, 0), value=True)
            states = inner.pre_layrnorm(states)
        mask = torch.zeros(seen.shape, dtype=states.dtype, device=states.device)
        mask = mask.masked_fill(~seen, torch.finfo(states.dtype).min)[:, None, None]
        mask = mask.expand(-1, -1, seen.shape[1], -1)
        found: Tensor = inner.encoder(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return found[:, 1:] if self.has_class_token else inner.post_layernorm(found)

    @staticmethod
    def _places(table: Tensor, columns: int, rows: int, cells: int) -> Tensor:
        """Return a grid's position embeddings, (cells, width): the square's, interpolated to it."""
        side = math.isqrt(len(table))
        square = table.view(1, side, side, -1).permute(0, 3, 1, 2)
        if (columns, rows) != (side, side):
            square = functional.interpolate(
                square.float(), size=(rows, columns), mode="bicubic", align_corners=False
            ).to(table.dtype)
        found = square.flatten(2)[0].T
        return functional.pad(found, (0, 0, 0, cells - len(found)))


def build_vision(tower: Tower, side: int) -> Vision:
    """Build a tower from its configuration, or load it; positions are interpolated to `side` pixels.

    Raises:
        UserError: the folder or the configuration is of no known kind.
    """
    import transformers

    if tower.path is not None:
        if not (tower.path / "config.json").is_file():
            raise UserError(f"{tower.path}: no config.json there", fix="name a local model folder")
        config = transformers.AutoConfig.from_pretrained(tower.path, local_files_only=True)
        config = getattr(config, "vision_config", config)
        name = config.model_type
    else:
        values = {"image_size": side, "model_type": "siglip_vision_model", **(tower.config or {})}
        name = values["model_type"]
        config = transformers.AutoConfig.for_model(**values) if name in KINDS else None
    if name not in KINDS:
        raise UserError(f"vision: unknown model_type {name!r}", fix=f"one of {', '.join(KINDS)}")
    # The pooling head of SigLIP is not used: without it, every parameter gets a gradient.
    config.vision_use_head = False
    kind = getattr(transformers, KINDS[name])
    if tower.path is None:
        model = kind(config)
        damp(model, tower.residual)
        return Vision(model)
    return Vision(
        kind.from_pretrained(tower.path, config=config, dtype="float32", local_files_only=True)
    )
