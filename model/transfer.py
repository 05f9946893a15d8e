"""A connector that was trained for one language model, carried over to another: VPGTrans.

https://arxiv.org/abs/2305.01278, section 4: a linear word converter, from the old model's word
embeddings to the new one's, follows the old connector. There it is trained; here it is the least-squares
map over the words that both tokenizers know, which has a closed form.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from catalog.errors import UserError

RIDGE = 1e-3
"""Weight of the converter's own size, relative to that of the embeddings: few words leave it unsure."""


class Carried(nn.Module):
    """A connector for a language model of another width, and a linear layer to this one's."""

    def __init__(self, connector: Any, inner: int, language: int) -> None:
        super().__init__()
        self.connector, self.inner = connector, inner
        self.words = nn.Linear(inner, language)

    @property
    def config(self) -> Any:
        return self.connector.config

    def forward(self, patches: Tensor, *grids: Tensor) -> Tensor:
        """(N, P, vision) -> (N, tokens, language)."""
        tokens: Tensor = self.words(self.connector(patches, *grids))
        return tokens


def inner_of(source: Path | None) -> int | None:
    """Return the width that a connector to start from was made for, if a converter follows it.

    `source` is a run, whose connector is carried over, or a connector's file, which is taken as it is.
    """
    if source is None:
        return None
    model = source / "model" if source.is_dir() else source.parent
    kept = model / "cuvee.json"
    values = json.loads(kept.read_bytes()) if kept.is_file() else {}
    inner = values.get("inner")
    if inner is None and source.is_dir():
        if not kept.is_file():
            raise UserError(f"{source}: no trained model there", fix="name the folder of a run")
        inner = json.loads((model / "language" / "config.json").read_bytes())["hidden_size"]
    return inner if inner is None else int(inner)


def start_connector(connector: nn.Module, source: Path, language: Any, tokenizer: Path) -> None:
    """Set what a connector starts from: the weights of a file, or those of a run, carried over.

    Raises:
        UserError: they are of another connector, or the two tokenizers share no words.
    """
    if source.is_dir():
        assert isinstance(connector, Carried)
        carry(connector, language, source, tokenizer)
    else:
        load_connector(connector, source)


@torch.no_grad()
def carry(connector: Carried, language: Any, run: Path, tokenizer: Path) -> None:
    """Set a connector from that of a run, and its converter from the words both tokenizers know."""
    from transformers import AutoModelForCausalLM

    model = run / "model"
    old: Any = AutoModelForCausalLM.from_pretrained(
        model / "language", dtype="float32", local_files_only=True
    )
    here, there = vocabulary(tokenizer), vocabulary(model / "tokenizer")
    both = sorted(here.keys() & there.keys())
    if not both:
        raise UserError(
            f"{run}: its tokenizer shares no word with {tokenizer}",
            fix="name a connector.safetensors of the same width in `connector_from`",
        )
    weight, bias = converter(
        old.get_input_embeddings().weight[[there[word] for word in both]],
        language.get_input_embeddings().weight[[here[word] for word in both]],
    )
    file = model / "connector.safetensors"
    held = load_file(file)
    if "words.weight" in held:
        # Carried before: two linear layers are one.
        bias = weight @ held.pop("words.bias") + bias
        weight = weight @ held.pop("words.weight")
        held = {name.removeprefix("connector."): value for name, value in held.items()}
    load_connector(connector.connector, file, held)
    connector.words.weight.copy_(weight)
    connector.words.bias.copy_(bias)


def load_connector(connector: nn.Module, file: Path, held: dict[str, Tensor] | None = None) -> None:
    """Set a connector's weights from a file, or from what was read from it.

    Raises:
        UserError: they are of another connector.
    """
    if held is None and not file.is_file():
        raise UserError(f"{file} is not there", fix="name `connector.safetensors` of a model")
    held = load_file(file) if held is None else held
    now = connector.state_dict()
    wrong = [
        f"{name}: {list(held[name].shape) if name in held else 'missing'} there, "
        f"{list(now[name].shape) if name in now else 'unknown'} here"
        for name in sorted({*held, *now})
        if name not in held or name not in now or held[name].shape != now[name].shape
    ]
    if wrong:
        raise UserError(
            f"{file} holds another connector\n" + "\n".join(wrong),
            fix="choose the same `connector`, vision width and language width as that model",
        )
    connector.load_state_dict(held)


def converter(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the linear layer that best turns rows of `before` into those of `after`.

    >>> left = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 5.0]])
    >>> weight, bias = converter(left, left @ torch.tensor([[2.0], [3.0]]) + 1)
    >>> [round(value, 1) for value in (*weight[0].tolist(), *bias.tolist())]
    [2.0, 3.0, 1.0]
    """
    middle, aim = before.double().mean(0), after.double().mean(0)
    left, right = before.double() - middle, after.double() - aim
    square = left.T @ left
    square.diagonal().add_(RIDGE * square.diagonal().mean())
    weight = torch.linalg.solve(square, left.T @ right).T
    return weight.to(after), (aim - weight @ middle).to(after)


def vocabulary(tokenizer: Path) -> dict[str, int]:
    """Return token -> id of a tokenizer's folder."""
    file = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ids: dict[str, int] = file.get_vocab(with_added_tokens=True)
    return ids
