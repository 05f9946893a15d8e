"""Smaller weights for inference, by `torchao`: whole linear layers in eight bits."""

from typing import Literal

import torch
from torch import nn

from catalog.errors import UserError

Precision = Literal["fp32", "bf16", "int8", "int8-dynamic"]
"""`int8`: weights alone, a scale a row. `int8-dynamic`: the numbers they meet as well, when they come."""


def quantise(model: nn.Module, precision: Precision) -> None:
    """Change a model's weights in place; embeddings, norms and the connector's queries stay whole.

    Raises:
        UserError: `torchao` is missing.
    """
    if precision == "bf16":
        model.to(torch.bfloat16)
    if not precision.startswith("int8"):
        return
    try:
        from torchao.quantization import (
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise UserError("int8 needs torchao", fix="pip install 'cuvee[quantise]'") from error
    whole = precision == "int8"
    quantize_(model, Int8WeightOnlyConfig() if whole else Int8DynamicActivationInt8WeightConfig())
