"""What drives a model through its steps: DeepSpeed's ZeRO, or torch's FSDP2, behind one interface."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from model.config import PARTS, RunConfig
from model.vlm import CuveeModel
from pipeline.batch import Batch

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's state of a parameter; a checkpoint names it `PARAMETER#MOMENT`."""


class Engine(Protocol):
    """A model with its optimizer, spread over the ranks."""

    module: CuveeModel
    device: torch.device
    rank: int
    groups: list[dict[str, Any]]
    """The optimizer's parameter groups; `lr` may be set before an update."""
    grad_norm: float
    """Of the last update, before clipping."""

    def update(self, batches: list[Batch], factor: float) -> float:
        """Make one optimizer step of a rank's micro-batches; return the sum of their losses.

        The step follows the gradient of `factor` times the sum of all losses of all ranks.
        """
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield whole fp32 weights and moments by name, one at a time; on every rank."""
        ...

    def restore(self, tensors: Callable[[str], Tensor], updates: float) -> None:
        """Set weights and moments; on every rank, after an update of any outcome."""
        ...

    def updates(self) -> float:
        """Return the steps that Adam counted."""
        ...


def build_engine(config: RunConfig, model: CuveeModel, rows: int) -> Engine:
    """Return the engine that a run file names; `rows` are a rank's packs of a step."""
    if config.engine == "fsdp2":
        from model.fsdp import FSDP2

        return FSDP2(config, model)
    # Imported here: it looks at the accelerator's name when it is imported.
    from model.zero import Zero

    return Zero(config, model, rows)


def adamw(model: CuveeModel, config: RunConfig) -> torch.optim.AdamW:
    """Return the optimizer of a run."""
    optim = config.optim
    groups = parameter_groups(model, config)
    return torch.optim.AdamW(groups, betas=optim.betas, weight_decay=optim.weight_decay)


def parameter_groups(model: CuveeModel, config: RunConfig) -> list[dict[str, Any]]:
    """Return the learning parameters by part, and by whether weight decay applies to them."""
    groups = []
    for part in PARTS:
        parameters = [p for m in model.modules_of(part) for p in m.parameters() if p.requires_grad]
        peak = config.optim.lr_of(part)
        for decay, chosen in (
            (config.optim.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": peak, "peak": peak, "weight_decay": decay})
    return groups
