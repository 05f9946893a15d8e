"""Smaller weights for inference: linear layers in eight bits by `torchao`, in four by it or by torch."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from catalog.errors import UserError

Precision = Literal["fp32", "bf16", "int8", "int8-dynamic", "int4"]
"""`int8`: weights alone, a scale a row. `int8-dynamic`: the numbers they meet as well, when they come.
`int4`: weights alone, a scale and a zero for each `GROUP` of a row, the rest of the model in bf16."""
GROUP = 32
"""Weights that share a scale in four bits."""
ROWS = 16
"""torch's kernel for four bits on CPU wants multiples of so many rows; other layers stay in bf16."""


def precision_of(name: str) -> Precision:
    """Return a precision by its name.

    Raises:
        UserError: there is none of this name.
    """
    for known in get_args(Precision):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"no precision {name!r}", fix=f"one of {', '.join(get_args(Precision))}")


def quantise(model: nn.Module, precision: Precision) -> None:
    """Change a model's weights in place; embeddings, norms and the connector's queries stay whole.

    Raises:
        UserError: `torchao` is missing.
    """
    if precision in ("bf16", "int4"):
        model.to(torch.bfloat16)
    if precision in ("fp32", "bf16"):
        return
    if precision == "int4" and next(model.parameters()).device.type == "cpu":
        # torchao's layouts of four bits are for GPUs; on CPU it keeps them in bytes.
        _four_bits(model)
        return
    try:
        from torchao import quantization
    except ImportError as error:
        raise UserError(
            f"{precision} needs torchao", fix="pip install 'cuvee[quantise]'"
        ) from error
    found: Any = quantization
    quantization.quantize_(
        model,
        {
            "int8": lambda: found.Int8WeightOnlyConfig(),
            "int8-dynamic": lambda: found.Int8DynamicActivationInt8WeightConfig(),
            "int4": lambda: found.Int4WeightOnlyConfig(
                group_size=GROUP, int4_packing_format="tile_packed_to_4d"
            ),
        }[precision](),
    )


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights, once each, scales and zeros included."""
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(_bytes(tensor) for tensor in held.values())


def _bytes(tensor: Any) -> int:
    if hasattr(tensor, "__tensor_flatten__"):
        # A quantised weight is made of several tensors.
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return int(tensor.numel() * tensor.element_size())


class Int4Linear(nn.Module):
    """A linear layer whose weights lie two to a byte, by torch's own kernel for CPUs."""

    packed: Tensor
    scales: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        steps, scales = four_bits(layer.weight.detach().float())
        pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu
        self.register_buffer("packed", pack(steps, 1))
        self.register_buffer("scales", scales.transpose(0, 1).contiguous().to(layer.weight.dtype))
        self.bias = layer.bias

    def forward(self, features: Tensor) -> Tensor:
        """(..., in) -> (..., out), bfloat16."""
        flat = features.reshape(-1, features.shape[-1]).contiguous()
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.packed, GROUP, self.scales)
        result: Tensor = product.view(*features.shape[:-1], -1)
        return result if self.bias is None else result + self.bias


def four_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return steps 0..15, (out, in) int32, and scale and zero a group, (out, groups, 2).

    A weight is (step - 8) x scale + zero.

    >>> steps, scales = four_bits(torch.linspace(-1, 2, GROUP)[None])
    >>> steps[0, [0, 1, 15, 31]].tolist(), [round(value, 2) for value in scales[0, 0].tolist()]
    ([0, 0, 7, 15], [0.2, 0.6])
    """
    groups = weight.view(len(weight), -1, GROUP)
    low, high = groups.amin(-1), groups.amax(-1)
    scale = ((high - low) / 15).clamp(min=torch.finfo(torch.float32).tiny)
    steps = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15)
    return steps.view_as(weight).int(), torch.stack([scale, low + 8 * scale], -1)


def _four_bits(model: nn.Module) -> None:
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or layer.in_features % GROUP or layer.out_features % ROWS:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Int4Linear(layer))
