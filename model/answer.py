"""A trained model with its tokenizer: answers the last question of samples, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from catalog.images import ImageStore
from model.benchmarks import Row
from model.generate import Said, generate
from model.judge import Answer
from model.quantise import Precision, quantise
from model.vlm import CuveeModel
from pipeline.batch import IMAGE_TOKEN, LOCATION_TOKEN, Batch, asking
from pipeline.encode import PICTURE, Encoder, EncoderConfig
from pipeline.image import Picture, in_row, look, normalise
from pipeline.policy import ImagePolicy
from pipeline.spots import SPOT, Spots, as_hex, spell

_SHORT = {
    "task": "text",
    "messages": [
        {"role": "user", "content": "a", "loss": None},
        {"role": "assistant", "content": "b", "loss": None},
    ],
    "regions": [],
    "n_images": 0,
    "widths": [],
    "heights": [],
}
"""A conversation that shows which token ends an answer."""


class Answerer:
    """A model on the best device there is."""

    def __init__(
        self,
        folder: Path,
        encoder: EncoderConfig,
        policy: ImagePolicy,
        precision: Precision = "fp32",
    ) -> None:
        self._encoder, self._policy = Encoder(encoder), policy
        # Bars for each part of a model would bury the bar of the answers.
        talk: Any = logging
        talk.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = CuveeModel.load(folder).to(device)
        quantise(self._model, precision)
        self._ends = self._answer_ends()

    def _answer_ends(self) -> list[int]:
        """Return the tokens that end an answer: the one that training teaches, and the tokenizer's."""
        tokenizer = self._encoder.tokenizer
        [(ids, mask)] = self._encoder.encode([_SHORT])
        learnt = {int(token) for token in ids[mask][-1:]} & set(tokenizer.all_special_ids)
        named = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
        return sorted(learnt | named)

    def __call__(
        self,
        rows: Sequence[Row],
        store: ImageStore | Mapping[str, bytes],
        *,
        longest: int,
        batch_size: int,
        blind: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Return the answers to rows, in their order.

        `longest` counts new tokens; `progress` is called with the number of rows after each batch.
        """
        located = [self._encoder.located_prompt(row) for row in rows]
        prompts = [ids for ids, _ in located]
        answers: dict[int, Answer] = {}
        for batch in _batches(prompts, batch_size):
            tiles = [self._tiles(rows[place], store) for place in batch]
            tokens = [
                self._unfold(prompts[place], pictures)
                for place, pictures in zip(batch, tiles, strict=True)
            ]
            flat = [picture for pictures in tiles for picture in pictures]
            side = self._policy.size
            pixels = torch.zeros((0, 3, side, side))
            if flat:
                pixels = normalise(torch.cat([picture.tiles for picture in flat]))
            asked = asking(tokens, pixels, **_seen(tiles))
            asked = replace(
                asked,
                spots=_spots(asked, [located[place][1] for place in batch]),
                order=_order(asked, tiles) if self._policy.unpad else None,
            )
            seen = self._generate(asked, longest)
            # Middle grey is zero; without pictures there is nothing to blank.
            unseen: list[Answer] | list[None] = [None] * len(batch)
            if blind:
                unseen = self._generate(_blind(asked), longest) if flat else seen
            for place, answer, blank in zip(batch, seen, unseen, strict=True):
                answers[place] = replace(answer, blind=blank.text if blank else None)
            if progress:
                progress(len(batch))
        return [answers[place] for place in range(len(rows))]

    def _tiles(self, row: Row, store: ImageStore | Mapping[str, bytes]) -> list[Picture]:
        get = store.get if isinstance(store, ImageStore) else store.__getitem__
        return [look(get(image_id), self._policy) for image_id in row["image_ids"]]

    def _unfold(self, prompt: Sequence[int], pictures: Sequence[Picture]) -> list[int]:
        """Put as many visual tokens in place of each picture as its tiles give."""
        left = iter(pictures)
        return [
            token
            for ids in prompt
            for token in ([IMAGE_TOKEN] * next(left).visual if ids == PICTURE else [ids])
        ]

    def _generate(self, asked: Batch, longest: int) -> list[Answer]:
        answers = generate(self._model, asked, max_new_tokens=longest, eos=self._ends)
        return [
            Answer(text=self._text(said), blind=None, masks=tuple(map(as_hex, said.masks)))
            for said in answers
        ]

    def _text(self, answer: Said) -> str:
        """Return the words of an answer, its locations spelt as boxes."""
        boxes, words, text = iter(spell(answer.boxes)), list[int](), ""
        for token in [*answer.tokens, None]:
            if token is not None and token != LOCATION_TOKEN:
                words.append(token)
                continue
            text += self._encoder.tokenizer.decode(words, skip_special_tokens=True)
            text, words = text + ("" if token is None else next(boxes)), []
        return text


def _seen(rows: Sequence[Sequence[Picture]]) -> dict[str, Any]:
    """Return what a batch holds of pictures beside their pixels, where their policy has it."""
    found: dict[str, Any] = {"tiles": tuple(sum(len(p.tiles) for p in row) for row in rows)}
    for name in ("grids", "fine"):
        held = [value for row in rows for p in row if (value := getattr(p, name)) is not None]
        if held:
            found[name] = torch.cat(held)
    if "fine" in found:
        found["fine"] = normalise(found["fine"])
    return found


def _blind(asked: Batch) -> Batch:
    """Return the same with grey pictures."""
    return replace(
        asked, pixels=asked.pixels * 0, fine=None if asked.fine is None else asked.fine * 0
    )


def _order(asked: Batch, rows: Sequence[Sequence[Picture]]) -> Tensor:
    """Return which feature stands at each visual token's place, as a batch holds it."""
    order = torch.zeros_like(asked.tokens)
    order[asked.tokens == IMAGE_TOKEN] = torch.from_numpy(
        np.concatenate([in_row(pictures) for pictures in rows])
    )
    return order


def _spots(asked: Batch, given: Sequence[Spots]) -> Tensor:
    """Return what the location tokens of prompts point at, as a batch holds it."""
    spots = torch.zeros((*asked.tokens.shape, SPOT.itemsize), dtype=torch.uint8)
    raw = np.concatenate(given).view(np.uint8).reshape(-1, SPOT.itemsize)
    spots[asked.tokens == LOCATION_TOKEN] = torch.from_numpy(raw)
    return spots


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield the places of prompts, those of like length together: less padding."""
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    for first in range(0, len(order), size):
        yield order[first : first + size]
