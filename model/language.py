"""The causal language model of `transformers`, sized to the plan's tokenizer."""

from pathlib import Path
from typing import Any

from torch import nn

from catalog.errors import UserError
from model.config import Tower

ENDS = ("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")
"""Last weights of attention and MLP: of Llama, Qwen and their kin, and of SigLIP and CLIP."""


def vocabulary_of(tokenizer: Path) -> int:
    """Return one more than the largest token id of a tokenizer's folder.

    Raises:
        UserError: the folder is gone.
    """
    from tokenizers import Tokenizer

    file = tokenizer / "tokenizer.json"
    if not file.is_file():
        raise UserError(f"{file} is gone", fix="put the tokenizer back, or plan again with another")
    vocabulary: dict[str, int] = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    return max(vocabulary.values()) + 1


def build_language(tower: Tower, vocabulary: int, attention: str = "sdpa") -> Any:
    """Build a model from its configuration, or load it, with at least `vocabulary` embeddings.

    Raises:
        UserError: the folder is missing, or the configuration is of no known kind.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if tower.path is not None:
        if not (tower.path / "config.json").is_file():
            raise UserError(f"{tower.path}: no config.json there", fix="name a local model folder")
        model: Any = AutoModelForCausalLM.from_pretrained(
            tower.path, dtype="float32", attn_implementation=attention, local_files_only=True
        )
        if model.get_input_embeddings().num_embeddings < vocabulary:
            model.resize_token_embeddings(vocabulary)
        return model
    # The ids of special tokens are the tokenizer's: the defaults may lie outside the vocabulary.
    special: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    values = {"model_type": "qwen2", **special, **(tower.config or {}), "vocab_size": vocabulary}
    try:
        config = AutoConfig.for_model(**values)
    except ValueError as error:
        raise UserError(f"language: {error}", fix="use a `transformers` configuration") from error
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(config, attn_implementation=attention)
    damp(model, tower.residual)
    return model


def damp(model: nn.Module, factor: float) -> None:
    """Multiply the weights that end the residual branches of a `transformers` model."""
    for name, parameter in model.named_parameters():
        if name.endswith(ENDS):
            parameter.data.mul_(factor)
