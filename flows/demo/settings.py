"""What the demo runs: a tokenizer learnt from its own words, a recipe, and a run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows.demo.canvas import PLACES, SIDE, written
from flows.demo.questions import Asked, conversation, document, number, visual
from flows.demo.releases import WRITERS, Size
from flows.demo.text import instructions, page
from model.config import RunConfig
from pipeline.plan import Plan
from pipeline.prompt import QUESTION

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIALS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
LEARNT = 400
"""Pictures of each kind whose words the tokenizer learns from."""
WEIGHTS = {"vqav2": 4, "refcoco": 5, "llava": 6, "textvqa": 1, "docvqa": 1, "alpaca": 0.1}
"""Source -> its weight in the recipe, in samples."""
PATCH, MERGE = 16, 3
"""Pixels a side of a patch; patches a side of a visual token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How large the demo is."""

    size: Size = field(default_factory=Size)
    samples: int = 220_000
    """Budget of the plan."""
    vocabulary: int = 768
    packs_per_step: int = 4
    checkpoint_every: int = 200


FULL = Settings()
"""For two cores and some minutes."""


def write_tokenizer(folder: Path, size: Size, vocabulary: int) -> Path:
    """Write a byte-level BPE with a chat template; every digit is a token of its own.

    Tokens may hold spaces (https://arxiv.org/abs/2503.13423): the few questions of the demo become
    one or two tokens each, and most of its steps go into looking.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(text, special=True) for text in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(size), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": 1_000_000,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _texts(size: Size) -> Iterator[str]:
    """Yield training text of every kind that the model reads or writes."""
    yield from (text for pair in instructions() for text in pair)
    asked: list[Asked] = []
    for canvas in size.scattered("train")[:LEARNT]:
        asked += [*visual(canvas), *conversation(canvas)]
    for place in size.few("train")[:LEARNT]:
        asked.append(number(written(size.seed, "train", place)))
        asked += document(page(size.seed, "train", place), "train")
    yield from (text for item in asked for text in (item.question, item.answer))
    yield from (f"\n{item.question}" for item in asked)
    for words in ("the 7", *(f"the 7 at the {place}" for place in PLACES)):
        yield from [f"\n{QUESTION.format(expression=words)}"] * LEARNT
    yield from ["{<1><2><3><4>}"] * LEARNT


def write_files(folder: Path, settings: Settings) -> None:
    """Write `cuvee.yaml` and `recipe.yaml`, as a user would."""
    sources = [{"source": name, "root": f"data/{name}"} for name in WRITERS]
    _yaml(folder / "cuvee.yaml", {"catalog": "catalog", "sources": sources})
    # LLaVA's and Alpaca's files have no held-out split.
    train = {
        name: {"where": "split = 'train'"} for name in WEIGHTS if name not in ("llava", "alpaca")
    }
    _yaml(
        folder / "recipe.yaml",
        {
            "name": "demo",
            "budget": {"samples": settings.samples},
            "sources": [
                {"source": name, "weight": weight, "max_epochs": 24, **train.get(name, {})}
                for name, weight in WEIGHTS.items()
            ],
            "encoder": {"tokenizer": "data/tokenizer", "boxes": "minigpt-v2"},
            "image": {"size": SIDE, "tokens": (SIDE // PATCH // MERGE) ** 2},
            "packing": {"tokens": 256, "packs_per_step": settings.packs_per_step},
        },
    )


def write_run(folder: Path, settings: Settings, plan: Plan) -> RunConfig:
    """Write `run.yaml`, as a user would, and return it read."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": PATCH,
    }
    language = {
        "hidden_size": 192,
        "intermediate_size": 576,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1_024,
        "tie_word_embeddings": True,
        # About 1 / sqrt(width): the default of 0.02 is made for wide models.
        "initializer_range": 0.07,
    }
    values: dict[str, Any] = {
        "catalog": "catalog",
        "plan": plan.id,
        "output": f"runs/{plan.id[:8]}",
        "vision": {"config": vision, "residual": 0.0},
        "language": {"config": language, "residual": 0.0},
        "connector": {"merge": MERGE},
        "optim": {"lr": 1.5e-3, "warmup": 0.05, "betas": [0.9, 0.98], "weight_decay": 0.02},
        "precision": "bf16",
        # Matrices this small leave the threads of one process waiting for each other.
        "processes": 2,
        "checkpoint_every": settings.checkpoint_every,
    }
    _yaml(folder / "run.yaml", values)
    return RunConfig.load(folder / "run.yaml")


def _yaml(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
