"""Vision tower, connector and language model as one: the loss of packed rows, and generation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from catalog.errors import UserError
from model.config import RunConfig, Tower, Weighting
from model.connector.build import build_connector
from model.connector.config import Connector
from model.language import build_language
from model.lora import add_lora, merge_lora
from model.loss import targets, weights
from model.transfer import Carried, inner_of, load_connector, start_connector
from model.vision import Vision, build_vision
from pipeline.batch import IGNORE, IMAGE_TOKEN, Batch
from pipeline.image import normalise
from pipeline.policy import ImagePolicy


class CuveeModel(nn.Module):
    """A vision-language model over packed rows."""

    def __init__(self, vision: Vision, connector: Any, language: Any, side: int) -> None:
        super().__init__()
        self.vision, self.connector, self.language = vision, connector, language
        self.weighting: Weighting = "token"
        self.side = side
        """Side of a tile, in pixels."""

    @classmethod
    def build(
        cls, config: RunConfig, policy: ImagePolicy, vocabulary: int, tokenizer: Path = Path()
    ) -> Self:
        """Build the model of a run file; the same seed gives the same weights.

        `tokenizer` says which words a connector can be carried over by.

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
        language = build_language(config.language, vocabulary, config.attention)
        width = int(language.config.hidden_size)
        source = config.connector_from
        inner = inner_of(source)
        connector = build_connector(
            config.connector, vision=vision.width, language=width, inner=inner
        )
        if source is not None:
            start_connector(connector, source, language, tokenizer)
        model = cls(vision, connector, language, policy.size)
        model.weighting = config.weighting
        for part in config.freeze:
            getattr(model, part).requires_grad_(False)
        if config.lora is not None:
            add_lora(language, config.lora)
        if config.gradient_checkpointing:
            for tower in (vision.tower, language):
                tower.activation_checkpointing_enable({"use_reentrant": False})
        return model

    def forward(self, batch: Batch) -> Tensor:
        """Return the sum of the weighted cross-entropy over the learnt tokens, float32."""
        width = max(2, int((batch.segments > 0).any(0).sum()))
        tokens, labels, positions, segments = (
            tensor[:, :width]
            for tensor in (batch.tokens, batch.labels, batch.positions, batch.segments)
        )
        inputs = self.embed(tokens, batch.pixels)
        following = targets(labels, segments)
        counted = weights(following, segments, self.weighting)
        lengths: dict[str, Any] = {}
        if "flash" in str(self.language.config._attn_implementation):
            # Attention over variable lengths: all rows as one, without padding.
            kept = segments > 0
            kept[0, 0] = True
            inputs, positions, following = inputs[kept][None], positions[kept], following[kept]
            positions, following, counted = positions[None], following[None], counted[kept][None]
            lengths = sample_lengths(positions[0])
        # Samples are kept apart by positions that restart, and only without mask and cache.
        states = self.language.base_model(
            inputs_embeds=inputs, position_ids=positions, use_cache=False, **lengths
        ).last_hidden_state
        learnt = following != IGNORE
        logits = self.language.get_output_embeddings()(states[learnt])
        losses = functional.cross_entropy(logits.float(), following[learnt], reduction="none")
        return (losses * counted[learnt]).sum()

    def embed(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Return (B, T, width) embeddings, visual tokens in place of `IMAGE_TOKEN`.

        Without a picture the tower sees one grey tile that adds zero: every rank runs the same graph.

        Raises:
            ValueError: the places for visual tokens are not as many as the pictures give.
        """
        embedded: Tensor = self.language.get_input_embeddings()(tokens.clamp(min=0))
        places = tokens == IMAGE_TOKEN
        seen = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
        if not len(pixels):
            seen = seen.new_zeros((1, 3, self.side, self.side))
        visual = self.connector(self.vision(seen)).to(embedded.dtype)
        wanted, given = int(places.sum()), visual.shape[1] * len(pixels)
        if wanted != given:
            raise ValueError(f"{wanted} places for visual tokens, {given} visual tokens")
        if given:
            embedded = embedded.masked_scatter(places[..., None], visual)
        else:
            embedded = embedded + 0 * visual.sum()
        return embedded

    @torch.inference_mode()
    def generate(
        self,
        tokens: Sequence[Sequence[int]],
        pixels: Tensor,
        *,
        max_new_tokens: int,
        eos: int | Sequence[int],
    ) -> list[list[int]]:
        """Continue prompts greedily, with a cache of keys and values.

        Args:
            tokens: prompts; `IMAGE_TOKEN` once for each visual token.
            pixels: (N, 3, S, S), uint8 or float in -1..1, the tiles of all prompts in order.
            max_new_tokens: longest answer.
            eos: token or tokens that end an answer; left out of it.
        """
        self.eval()
        device = next(self.parameters()).device
        length = max(len(prompt) for prompt in tokens)
        # Padding stands left: all prompts end at the same place, where the cache goes on.
        rows = torch.zeros((len(tokens), length), dtype=torch.int64)
        mask = torch.zeros_like(rows)
        for row, kept, prompt in zip(rows, mask, tokens, strict=True):
            row[length - len(prompt) :] = torch.tensor(prompt)
            kept[length - len(prompt) :] = 1
        ends = [eos] if isinstance(eos, int) else list(eos)
        answers = self.language.generate(
            inputs_embeds=self.embed(rows.to(device), pixels.to(device)),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        return [_until(answer, ends) for answer in answers.tolist()]

    def save(self, folder: Path) -> None:
        """Write the three parts, the towers as `transformers` folders; LoRA is merged in."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        merge_lora(self.language)
        self.vision.tower.save_pretrained(folder / "vision")
        self.language.save_pretrained(folder / "language")
        save_file(dict(self.connector.state_dict()), folder / "connector.safetensors")
        chosen = self.connector.config.model_dump(mode="json")
        values = {"schema": 2, "side": self.side, "connector": chosen}
        if isinstance(self.connector, Carried):
            values["inner"] = self.connector.inner
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
        return cls(vision, connector, language, values["side"])


def sample_lengths(positions: Tensor) -> dict[str, Any]:
    """Return what attention over variable lengths wants to know of samples one after the other.

    https://arxiv.org/abs/2307.08691; `transformers` hands it to `flash_attn_varlen_func`.

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


def _until(answer: list[int], ends: list[int]) -> list[int]:
    """Return the answer up to its first end.

    >>> _until([4, 7, 2, 2], [2])
    [4, 7]
    """
    stops = [place for place, token in enumerate(answer) if token in ends]
    return answer[: stops[0]] if stops else answer
