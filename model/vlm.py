"""Vision tower, connector and language model as one: the loss of packed rows; saved and loaded."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from catalog.errors import UserError
from model.attention import apart, is_flash, sample_lengths
from model.config import Fine, Locations, Part, RunConfig, Tower, Weighting
from model.connector.build import build_connector
from model.connector.config import Connector
from model.fine import FineBranch
from model.language import build_language
from model.locations import LocationCoder, read_spots
from model.lora import add_lora, merge_lora
from model.loss import targets, weights
from model.transfer import Carried, inner_of, load_connector, start_connector
from model.vision import Vision, build_vision
from pipeline.batch import IGNORE, IMAGE_TOKEN, LOCATION_TOKEN, Batch
from pipeline.image import normalise
from pipeline.policy import NEWLINE, ImagePolicy
from pipeline.spots import SPOT

BESIDE = "beside.safetensors"
"""Weights of what is neither tower nor connector."""


class CuveeModel(nn.Module):
    """A vision-language model over packed rows."""

    def __init__(
        self,
        vision: Vision,
        connector: Any,
        language: Any,
        side: int,
        *,
        locations: LocationCoder | None = None,
        fine: FineBranch | None = None,
        newline: bool = False,
    ) -> None:
        super().__init__()
        self.vision, self.connector, self.language = vision, connector, language
        self.locations, self.fine = locations, fine
        width = int(language.config.hidden_size)
        self.newline = nn.Embedding(1, width) if newline else None
        """Ends each row of features where padding is cut away."""
        self.weighting: Weighting = "token"
        self.side = side
        """Side of a tile, in pixels."""

    @property
    def location(self) -> int:
        """Id of the location token in the language model; none without locations."""
        return LOCATION_TOKEN if self.locations is None else self.locations.token

    @classmethod
    def build(
        cls,
        config: RunConfig,
        policy: ImagePolicy,
        vocabulary: int,
        tokenizer: Path = Path(),
        *,
        located: bool = False,
    ) -> Self:
        """Build the model of a run file; the same seed gives the same weights.

        `tokenizer` says which words a connector can be carried over by. With `located`, the first id
        after the vocabulary is the location token's.

        Raises:
            UserError: the tower, the connector and the plan's image policy do not fit together.
        """
        torch.manual_seed(config.seed)
        vision = build_vision(config.vision, policy.size)
        patches = vision.patches(policy.size)
        made = config.connector.tokens(patches)
        if made != policy.tokens:
            raise UserError(
                f"a tile of {policy.size} pixels gives {patches} x {patches} patches, "
                f"{config.connector.words()}: {made:g} visual tokens; the plan counts {policy.tokens}",
                fix="change patch_size or `connector`, or `image` in the recipe, and plan again",
            )
        _check_shapes(config, policy, vision)
        language = build_language(config.language, vocabulary + located, config.attention)
        width = int(language.config.hidden_size)
        source = config.connector_from
        inner = inner_of(source)
        connector = build_connector(
            config.connector, vision=vision.width, language=width, inner=inner
        )
        if source is not None:
            start_connector(connector, source, language, tokenizer)
        locations = LocationCoder(config.locations, width, vocabulary) if located else None
        fine = None
        if config.fine is not None and policy.fine is not None:
            tower = build_vision(config.fine.vision, policy.fine)
            fine = FineBranch(config.fine, tower, language, policy.fine)
        model = cls(
            vision,
            connector,
            language,
            policy.size,
            locations=locations,
            fine=fine,
            newline=policy.unpad,
        )
        if source is not None and source.is_file():
            model._start_beside(source.with_name(BESIDE))
        model.weighting = config.weighting
        for part in config.freeze:
            for module in model.modules_of(part):
                module.requires_grad_(False)
        if config.lora is not None:
            add_lora(language, config.lora)
        if config.gradient_checkpointing:
            for tower in [part.tower for part in model.modules_of("vision")] + [language]:
                tower.activation_checkpointing_enable({"use_reentrant": False})
        return model

    def forward(self, batch: Batch) -> Tensor:
        """Return the sum of the weighted losses over the learnt tokens, float32.

        That is their cross-entropy, and at location tokens what is wrong with box and mask.
        """
        width = max(2, int((batch.segments > 0).any(0).sum()))
        batch = batch.narrow(width)
        segments, positions = batch.segments, batch.positions
        inputs, asking = self.embed(batch), self.look(batch)
        said = batch.labels == LOCATION_TOKEN
        following = targets(batch.labels.masked_fill(said, self.location), segments)
        counted = weights(following, segments, self.weighting)
        # A location counts as the token that it is, which the place before it predicts.
        share = functional.pad(counted, (1, -1))
        told: dict[str, Any]
        if is_flash(self.language.config):
            # All rows as one, without padding.
            kept = segments > 0
            kept[0, 0] = True
            inputs, positions, following, counted, said, share, asking = (
                tensor[kept][None]
                for tensor in (inputs, positions, following, counted, said, share, asking)
            )
            told = sample_lengths(positions[0])
        else:
            told = apart(self.language.config, segments, inputs)
        if self.fine is not None:
            self.fine.point(asking)
        states = self.language.base_model(
            inputs_embeds=inputs, position_ids=positions, use_cache=False, **told
        ).last_hidden_state
        learnt = following != IGNORE
        logits = self.language.get_output_embeddings()(states[learnt])
        losses = functional.cross_entropy(logits.float(), following[learnt], reduction="none")
        total = (losses * counted[learnt]).sum()
        if self.locations is None:
            return total
        spots = _spots(batch, batch.labels == LOCATION_TOKEN)
        if not len(spots):
            # Every rank runs the same graph.
            idle = self.locations.loss(states[0, :1].detach(), spots.new_zeros(1, spots.shape[1]))
            return total + 0 * idle.sum()
        return total + (self.locations.loss(states[said], spots) * share[said]).sum()

    def embed(self, batch: Batch) -> Tensor:
        """Return (B, T, width) embeddings, visual tokens in place of `IMAGE_TOKEN`.

        Location tokens that are given, not learnt, carry their boxes.
        Without a picture the tower sees one grey tile that adds zero: every rank runs the same graph.

        Raises:
            ValueError: the places for visual tokens are not as many as the pictures give.
        """
        tokens, pixels = batch.tokens, batch.pixels
        ids = tokens.masked_fill(tokens == LOCATION_TOKEN, self.location).clamp(min=0)
        embedded: Tensor = self.language.get_input_embeddings()(ids)
        places = tokens == IMAGE_TOKEN
        seen = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
        if not len(pixels):
            seen = seen.new_zeros((1, 3, self.side, self.side))
        if batch.grids is None:
            visual = self.connector(self.vision(seen))
        else:
            # Without a picture, the grey tile is all there.
            whole = batch.grids.new_full((1, 2), self.vision.patches(self.side))
            grids = batch.grids if len(pixels) else whole
            visual = self.connector(self.vision(seen, grids), grids)
        visual, each = visual.flatten(0, 1).to(embedded.dtype), visual.shape[1]
        if self.newline is not None:
            visual = self._unpadded(batch, places, visual, each)
        wanted = int(places.sum())
        if len(pixels) and wanted != len(visual):
            raise ValueError(f"{wanted} places for visual tokens, {len(visual)} visual tokens")
        if wanted:
            embedded = embedded.masked_scatter(places[..., None], visual)
        else:
            embedded = embedded + 0 * visual.sum()
        if self.locations is None:
            return embedded
        pointed = (tokens == LOCATION_TOKEN) & (batch.labels != LOCATION_TOKEN)
        spots = _spots(batch, pointed)
        if not len(spots):
            return embedded + 0 * self.locations.encode(embedded.new_zeros(1, 4)).sum()
        boxes, _, _ = read_spots(spots)
        return embedded.index_put(
            (pointed,), self.locations.encode(boxes).to(embedded.dtype), accumulate=True
        )

    def _unpadded(self, batch: Batch, places: Tensor, visual: Tensor, each: int) -> Tensor:
        """Return the features that are kept, newlines among them, in the order of their places."""
        assert self.newline is not None
        end = self.newline(torch.zeros(1, dtype=torch.int64, device=places.device))
        whole = torch.cat([visual, end.to(visual.dtype)])
        if batch.order is None or not len(batch.pixels):
            return whole
        before = torch.tensor([0, *accumulate(batch.tiles)][:-1], device=places.device)
        chosen = batch.order + before[:, None] * each
        return whole[chosen.masked_fill(batch.order == NEWLINE, len(visual))[places]]

    def look(self, batch: Batch) -> Tensor:
        """See the finer pictures, if there is a branch for them; number tokens by what they may ask."""
        if self.fine is None:
            return torch.zeros_like(batch.segments)
        pixels = batch.fine
        if pixels is None:
            pixels = batch.pixels.new_zeros((0, 3, self.fine.side, self.fine.side))
        seen = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
        return self.fine.look(batch, seen)

    def _beside(self) -> dict[str, nn.Module]:
        cross = self.fine and self.fine.cross
        parts = {"locations": self.locations, "fine": cross, "newline": self.newline}
        return {name: part for name, part in parts.items() if part is not None}

    def _start_beside(self, file: Path) -> None:
        """Set what stands beside the connector from a model's file, as far as it has it.

        Raises:
            UserError: what it has does not fit.
        """
        held = load_file(file) if file.is_file() else {}
        for name, part in self._beside().items():
            start = f"{name}."
            mine = {k.removeprefix(start): v for k, v in held.items() if k.startswith(start)}
            if mine:
                load_connector(part, file, mine)

    def modules_of(self, part: Part) -> list[nn.Module]:
        """Return what belongs to a part: what is no tower learns and freezes with the connector."""
        own: nn.Module = getattr(self, part)
        if part == "vision" and self.fine is not None:
            return [own, self.fine.vision]
        return [own, *self._beside().values()] if part == "connector" else [own]

    def save(self, folder: Path) -> None:
        """Write the three parts, the towers as `transformers` folders; LoRA is merged in."""
        folder.mkdir(parents=True, exist_ok=True)
        merge_lora(self.language)
        self.vision.tower.save_pretrained(folder / "vision")
        self.language.save_pretrained(folder / "language")
        save_file(dict(self.connector.state_dict()), folder / "connector.safetensors")
        if beside := self._beside():
            save_file(dict(nn.ModuleDict(beside).state_dict()), folder / BESIDE)
        chosen = self.connector.config.model_dump(mode="json")
        values = {"schema": 2, "side": self.side, "connector": chosen}
        if isinstance(self.connector, Carried):
            values["inner"] = self.connector.inner
        if self.locations is not None:
            values["location"] = self.locations.token
        if self.fine is not None:
            self.fine.vision.tower.save_pretrained(folder / "fine")
            chosen = self.fine.config.model_dump(mode="json", exclude={"vision"})
            values["fine"] = {"side": self.fine.side, **chosen}
        values["newline"] = self.newline is not None
        (folder / "cuvee.json").write_text(json.dumps(values))

    @classmethod
    def load(cls, folder: Path, attention: str = "sdpa") -> Self:
        """Read what `save` wrote, in float32.

        Raises:
            UserError: there is no model.
        """
        if not (folder / "cuvee.json").is_file():
            raise UserError(f"{folder}: no model there", fix="train to the end first")
        values = json.loads((folder / "cuvee.json").read_text())
        vision = build_vision(Tower(path=folder / "vision"), values["side"])
        language = build_language(Tower(path=folder / "language"), 0, attention)
        width = int(language.config.hidden_size)
        # Before schema 2 there was one kind, and only its `merge` was kept.
        chosen = values.get("connector") or {"merge": values["merge"]}
        config = TypeAdapter[Connector](Connector).validate_python(chosen)
        connector = build_connector(
            config, vision=vision.width, language=width, inner=values.get("inner")
        )
        load_connector(connector, folder / "connector.safetensors")
        token, fine = values.get("location"), None
        if values.get("fine"):
            tower, side = Tower(path=folder / "fine"), values["fine"].pop("side")
            chosen = Fine(vision=tower, **values["fine"])
            fine = FineBranch(chosen, build_vision(tower, side), language, side)
        model = cls(
            vision,
            connector,
            language,
            values["side"],
            locations=None if token is None else LocationCoder(Locations(), width, token),
            fine=fine,
            newline=values.get("newline", False),
        )
        model._start_beside(folder / BESIDE)
        return model


def _spots(batch: Batch, places: Tensor) -> Tensor:
    """Return the spots of some location tokens, (L, 115) uint8."""
    if batch.spots is None:
        return batch.tokens.new_zeros((0, SPOT.itemsize), dtype=torch.uint8)
    return batch.spots[places]


def _check_shapes(config: RunConfig, policy: ImagePolicy, vision: Vision) -> None:
    """Refuse towers and connectors that cannot take what the plan's policy gives."""
    kind = config.connector.kind
    asks = kind in ("resampler", "perceiver", "qformer")
    if policy.patch and (not asks or vision.tower.config.patch_size != policy.patch):
        raise UserError(
            f"the plan's slices keep their shape in patches of {policy.patch} pixels; the tower's have "
            f"{vision.tower.config.patch_size}, and the connector is {kind}",
            fix="choose a resampler, perceiver or qformer, and plan with the tower's `patch`",
        )
    if policy.unpad and (asks or getattr(config.connector, "shape", "square") != "square"):
        raise UserError(
            f"the plan cuts padding away, and the tokens of {kind} have no places",
            fix="choose linear, mlp or region over squares, or plan without `unpad`",
        )
    if (config.fine is None) != (policy.fine is None):
        raise UserError(
            "a run's `fine` branch and the plan's `fine` look belong together",
            fix="set `fine` in the run file and in the recipe's `image`, or in neither",
        )
