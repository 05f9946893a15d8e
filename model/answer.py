"""A trained model with its tokenizer: answers the last question of samples, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from catalog.images import ImageStore
from model.benchmarks import Row
from model.judge import Answer
from model.quantise import Precision, quantise
from model.vlm import CuveeModel
from pipeline.batch import IMAGE_TOKEN
from pipeline.encode import PICTURE, Encoder, EncoderConfig
from pipeline.image import decode, normalise
from pipeline.policy import ImagePolicy

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
        prompts = [self._encoder.prompt(row) for row in rows]
        answers: dict[int, Answer] = {}
        for batch in _batches(prompts, batch_size):
            tiles = [self._tiles(rows[place], store) for place in batch]
            tokens = [
                self._unfold(prompts[place], pictures)
                for place, pictures in zip(batch, tiles, strict=True)
            ]
            flat = [picture for pictures in tiles for picture in pictures]
            side = self._policy.size
            pixels = normalise(torch.cat(flat)) if flat else torch.zeros((0, 3, side, side))
            seen = self._generate(tokens, pixels, longest)
            # Middle grey is zero; without pictures there is nothing to blank.
            unseen: list[str] | list[None] = [None] * len(batch)
            if blind:
                unseen = self._generate(tokens, pixels * 0, longest) if flat else seen
            for place, text, blank in zip(batch, seen, unseen, strict=True):
                answers[place] = Answer(text=text, blind=blank)
            if progress:
                progress(len(batch))
        return [answers[place] for place in range(len(rows))]

    def _tiles(self, row: Row, store: ImageStore | Mapping[str, bytes]) -> list[Tensor]:
        get = store.get if isinstance(store, ImageStore) else store.__getitem__
        return [decode(get(image_id), self._policy) for image_id in row["image_ids"]]

    def _unfold(self, prompt: Sequence[int], pictures: Sequence[Tensor]) -> list[int]:
        """Put as many visual tokens in place of each picture as its tiles give."""
        left = iter(pictures)
        return [
            token
            for ids in prompt
            for token in (
                [IMAGE_TOKEN] * (len(next(left)) * self._policy.tokens) if ids == PICTURE else [ids]
            )
        ]

    def _generate(self, tokens: Sequence[Sequence[int]], pixels: Tensor, longest: int) -> list[str]:
        answers = self._model.generate(tokens, pixels, max_new_tokens=longest, eos=self._ends)
        return [
            self._encoder.tokenizer.decode(answer, skip_special_tokens=True) for answer in answers
        ]


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield the places of prompts, those of like length together: less padding."""
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    for first in range(0, len(order), size):
        yield order[first : first + size]
