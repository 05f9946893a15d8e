"""DeepSpeed as an engine: plain data parallelism, and ZeRO 1, 2 and 3.

https://arxiv.org/abs/1910.02054
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn

from model.config import RunConfig
from model.engine import MOMENTS, adamw
from model.vlm import CuveeModel
from pipeline.batch import Batch


class Zero:
    """DeepSpeed's engine around a model and AdamW."""

    def __init__(self, config: RunConfig, model: CuveeModel, rows: int) -> None:
        exact = {name: buffer.clone() for name, buffer in model.named_buffers()}
        self._stage, self._clip = config.zero, config.optim.clip
        # Without ZeRO, bf16 is autocast over fp32 weights.
        self._autocast = config.precision == "bf16" and not config.zero
        offload = {"offload_optimizer": {"device": "cpu"}} if config.offload else {}
        values = {
            "train_micro_batch_size_per_gpu": min(config.micro_batch, rows),
            "gradient_accumulation_steps": -(-rows // config.micro_batch),
            # Without ZeRO, DeepSpeed clips but does not say the norm: see `update`.
            "gradient_clipping": self._clip if config.zero else 0.0,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": config.zero, **offload},
            # AdamW of torch runs where the state lies; DeepSpeed's own would be compiled first.
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": config.precision == "bf16" and config.zero > 0},
            "steps_per_print": sys.maxsize,
        }
        optimizer = adamw(model, config)
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=values)
        self.module: CuveeModel = self._engine.module
        self.device: torch.device = self._engine.device
        self.rank = int(self._engine.global_rank)
        self.groups: list[dict[str, Any]] = self._engine.optimizer.param_groups
        self.grad_norm = 0.0
        # DeepSpeed casts buffers too; rotary frequencies in bf16 would blur far positions.
        for name, buffer in self.module.named_buffers():
            buffer.data = exact[name].to(self.device)

    def update(self, batches: list[Batch], factor: float) -> float:
        """See `Engine`."""
        engine, total = self._engine, 0.0
        for number, batch in enumerate(batches, start=1):
            with self._cast():
                loss = engine(batch.to(self.device))
            # DeepSpeed takes the mean over ranks and micro-batches.
            engine.backward(loss * factor * engine.world_size * len(batches))
            if not self._stage and number == len(batches):
                learning = [p for group in self.groups for p in group["params"]]
                limit = self._clip or float("inf")
                self.grad_norm = float(nn.utils.clip_grad_norm_(learning, limit))
            engine.step()
            total += loss.item()
        if self._stage:
            self.grad_norm = float(engine.get_global_grad_norm() or 0.0)
        return total

    def _cast(self) -> AbstractContextManager[Any]:
        if self._autocast:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`."""
        self._link()
        for name, parameter in self.module.named_parameters():
            if self._stage and parameter.requires_grad:
                yield name, deepspeed.utils.safe_get_full_fp32_param(parameter)
                for key in MOMENTS:
                    moment = deepspeed.utils.safe_get_full_optimizer_state(parameter, key)
                    yield f"{name}#{key}", moment
                continue
            with self._whole(parameter):
                yield name, parameter.detach().float().clone()
            if parameter.requires_grad:
                for key in MOMENTS:
                    yield f"{name}#{key}", self._engine.optimizer.state[parameter][key]

    def restore(self, tensors: Callable[[str], Tensor], updates: float) -> None:
        """See `Engine`."""
        self._link()
        for name, parameter in self.module.named_parameters():
            weight = tensors(name).to(self.device)
            with torch.no_grad(), self._whole(parameter, write=True):
                if self._stage < 3 or self.rank == 0:
                    parameter.copy_(weight)
            if not parameter.requires_grad:
                continue
            if self._stage:
                deepspeed.utils.safe_set_full_fp32_param(parameter, weight)
            for key in MOMENTS:
                moment = tensors(f"{name}#{key}").to(self.device)
                if self._stage:
                    deepspeed.utils.safe_set_full_optimizer_state(parameter, moment, key)
                else:
                    self._engine.optimizer.state[parameter][key].copy_(moment)
        for values in self._adam().state.values():
            values["step"].fill_(updates)

    def updates(self) -> float:
        """See `Engine`."""
        return float(next(iter(self._adam().state.values()))["step"])

    def _whole(self, parameter: nn.Parameter, *, write: bool = False) -> Any:
        """Gather a parameter that ZeRO 3 cut among the ranks."""
        return deepspeed.zero.GatheredParameters(
            [parameter], modifier_rank=0 if write else None, enabled=self._stage == 3
        )

    def _link(self) -> None:
        """Tell each parameter where its moments lie, under ZeRO 1 and 2.

        DeepSpeed 0.19 does so after the first of several parameter groups was stepped, for that one only.
        """
        if self._stage not in (1, 2):
            return
        optimizer = self._engine.optimizer
        for parameters, flat in zip(
            optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True
        ):
            deepspeed.utils.lazy_init_hp_params_optimizer_state(
                parameters, flat, optimizer.optimizer.state
            )

    def _adam(self) -> torch.optim.Optimizer:
        """Return the AdamW inside DeepSpeed's wrapping."""
        wrapped = self._engine.optimizer
        inner: torch.optim.Optimizer = getattr(wrapped, "optimizer", wrapped)
        return inner
