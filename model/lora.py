"""Low-rank adapters in a language model, by `peft`: put in in place, and merged into its weights."""

from typing import Any

from catalog.errors import UserError
from model.config import LoRA


def add_lora(language: Any, config: LoRA) -> None:
    """Put adapters into a model's linear layers; only they learn from now on.

    Raises:
        UserError: `peft` is missing, or no layer has such a name.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError("lora needs peft", fix="pip install 'cuvee[lora]'") from error

    chosen = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        peft.inject_adapter_in_model(chosen, language)
    except ValueError as error:
        raise UserError(f"lora: {error}", fix="name layers of this language model") from error


def merge_lora(language: Any) -> None:
    """Add adapters, if there are any, to the weights they adapt, and take them out."""
    for name, module in list(language.named_modules()):
        base = getattr(module, "base_layer", None)
        if base is None or not hasattr(module, "merge"):
            continue
        module.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(language.get_submodule(parent), last, module.get_base_layer())
