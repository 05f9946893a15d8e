"""Tiny models and hand-made batches for tests."""

from typing import Any

import torch

from model.config import RunConfig
from model.vlm import CuveeModel
from pipeline.batch import IGNORE, IMAGE_TOKEN, Batch
from pipeline.policy import ImagePolicy

SIDE, VISUAL, VOCABULARY = 16, 4, 50
POLICY = ImagePolicy(size=SIDE, tokens=VISUAL)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
Sample = tuple[list[int], torch.Tensor]
"""Tokens, and the tiles (N, 3, SIDE, SIDE)."""


def values(**changed: Any) -> dict[str, Any]:
    """Return the fields of a run file for a tiny model."""
    return {
        "catalog": "catalog",
        "output": "run",
        "vision": {"config": VISION},
        "language": {"config": LANGUAGE},
        "connector": {"merge": 2},
        **changed,
    }


def tiny(**changed: Any) -> CuveeModel:
    """Return a tiny model."""
    return CuveeModel.build(RunConfig.model_validate(values(**changed)), POLICY, VOCABULARY)


def sample(text: int, pictures: int, seed: int) -> Sample:
    """Return random tokens with pictures after the second token, and the pictures."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(0, VOCABULARY, (text,), generator=generator).tolist()
    tokens = ids[:2] + [IMAGE_TOKEN] * VISUAL * pictures + ids[2:]
    return tokens, torch.randn(pictures, 3, SIDE, SIDE, generator=generator)


def batch_of(rows: list[list[Sample]], length: int) -> Batch:
    """Return a batch whose rows hold these samples; all text but the first two tokens is learnt."""
    shape = (len(rows), length)
    tokens, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORE)
    segments = torch.zeros(shape, dtype=torch.int32)
    for row, samples in enumerate(rows):
        start = 0
        for number, (ids, _) in enumerate(samples, start=1):
            place = slice(start, start + len(ids))
            tokens[row, place] = torch.tensor(ids)
            labels[row, place] = torch.tensor(
                [IGNORE if t == IMAGE_TOKEN or i < 2 else t for i, t in enumerate(ids)]
            )
            positions[row, place] = torch.arange(len(ids))
            segments[row, place] = number
            start += len(ids)
    pixels = [pictures for samples in rows for _, pictures in samples]
    return Batch(
        tokens=tokens,
        labels=labels,
        positions=positions,
        segments=segments,
        pixels=torch.cat([torch.zeros(0, 3, SIDE, SIDE), *pixels]),
        step=0,
        packs=tuple(range(len(rows))),
        loss_tokens=int((labels != IGNORE).sum()),
        samples=sum(len(samples) for samples in rows),
        tiles=tuple(sum(len(tiles) for _, tiles in samples) for samples in rows),
    )
