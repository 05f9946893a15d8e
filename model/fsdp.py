"""torch's FSDP2 as an engine: weights, gradients and moments cut among the ranks, layer by layer.

https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from model.config import RunConfig
from model.engine import MOMENTS, adamw
from model.vlm import CuveeModel
from pipeline.batch import Batch


class FSDP2:
    """A sharded model; bf16 computes in bf16 and keeps fp32 weights, gradients and moments."""

    def __init__(self, config: RunConfig, model: CuveeModel) -> None:
        cuda, self.rank = torch.cuda.is_available(), torch.distributed.get_rank()
        self._ranks, self._clip = torch.distributed.get_world_size(), config.optim.clip
        self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) if cuda else 0)
        if not cuda:
            self.device = torch.device("cpu")
        half = config.precision == "bf16"
        policy = (
            MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            if half
            else MixedPrecisionPolicy()
        )
        mesh = init_device_mesh(self.device.type, (self._ranks,))
        model.to(self.device)
        for part in (*layers(model), model):
            fully_shard(part, mesh=mesh, mp_policy=policy)
        self.module = model
        self._adam = adamw(model, config)
        self.groups: list[dict[str, Any]] = self._adam.param_groups
        self.grad_norm = 0.0

    def update(self, batches: list[Batch], factor: float) -> float:
        """See `Engine`; gradients are cut among the ranks after each micro-batch: least memory."""
        total = 0.0
        for batch in batches:
            loss = self.module(batch.to(self.device))
            # FSDP2 takes the mean over ranks.
            torch.autograd.backward(loss * factor * self._ranks)
            total += loss.item()
        learning = [p for group in self.groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(learning, self._clip or float("inf"))
        self.grad_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        self._adam.step()
        self._adam.zero_grad()
        return total

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`."""
        for name, parameter in self.module.named_parameters():
            yield name, _whole(parameter.detach())
            if parameter.requires_grad:
                for key in MOMENTS:
                    yield f"{name}#{key}", _whole(self._adam.state[parameter][key])

    def restore(self, tensors: Callable[[str], Tensor], updates: float) -> None:
        """See `Engine`."""
        for name, parameter in self.module.named_parameters():
            _set(parameter, tensors(name))
            if parameter.requires_grad:
                state = self._adam.state[parameter]
                for key in MOMENTS:
                    _set(state[key], tensors(f"{name}#{key}"))
                state["step"].fill_(updates)

    def updates(self) -> float:
        """See `Engine`."""
        return float(next(iter(self._adam.state.values()))["step"])


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers, cross-attentions among them: what is gathered, used and let go of together."""
    held = (nn.ModuleList, nn.ModuleDict)
    return [layer for m in model.modules() if isinstance(m, held) for layer in m.children()]


def _whole(tensor: Tensor) -> Tensor:
    """Gather a tensor from all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def _set(tensor: Tensor, value: Tensor) -> None:
    """Set a rank's share of a tensor from the whole, which every rank has read."""
    if isinstance(tensor, DTensor):
        value = value.to(tensor.device)
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(value)
