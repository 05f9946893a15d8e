"""Tiles -> patch features: a SigLIP or CLIP vision tower of `transformers`."""

from typing import Any

from torch import Tensor, nn

from catalog.errors import UserError
from model.config import Tower
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

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, patches, width)."""
        dtype = next(self.parameters()).dtype
        stretch = pixels.shape[-1] != self.tower.config.image_size
        states = self.tower(pixels.to(dtype), interpolate_pos_encoding=stretch).last_hidden_state
        features: Tensor = states[:, 1:] if self.has_class_token else states
        return features


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
