"""Checkpoints that any number of ranks and any ZeRO stage can go on from.

A checkpoint holds whole tensors, not ranks' shares: for each parameter its fp32 weight and, where it
learns, both Adam moments, in safetensors files of about a gigabyte, and `state.json`. The folder is
written aside and renamed, and `latest` is set last: a kill at any moment leaves a usable run.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from catalog.errors import UserError

SHARD = 1 << 30
"""Bytes after which a new file is begun."""
MOMENTS = ("exp_avg", "exp_avg_sq")


def save(engine: Any, folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint `step-N`, N from `state`, and drop all but the last `keep`; on every rank.

    Gathers one tensor at a time: rank 0 needs memory for one file's worth.
    """
    final = folder / f"step-{state['step']:08}"
    staged = folder / f".{final.name}"
    if engine.global_rank == 0:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    shard: dict[str, Tensor] = {}
    size = number = 0
    for name, tensor in _tensors(engine):
        if engine.global_rank == 0:
            shard[name] = tensor.cpu().contiguous()
            size += tensor.numel() * 4
            if size >= SHARD:
                _write(shard, staged / f"{number:05}.safetensors")
                shard, size, number = {}, 0, number + 1
    if engine.global_rank == 0:
        _write(shard, staged / f"{number:05}.safetensors")
        (staged / "state.json").write_text(json.dumps({**state, "updates": _updates(engine)}))
        _sync(staged / "state.json")
        shutil.rmtree(final, ignore_errors=True)
        staged.rename(final)
        _sync(folder)
        mark = folder / ".latest"
        mark.write_text(final.name)
        _sync(mark)
        mark.replace(folder / "latest")
        _sync(folder)
        for old in sorted(folder.glob("step-*"))[:-keep]:
            if old != final:
                shutil.rmtree(old)
    deepspeed.comm.barrier()
    return final


def latest(folder: Path) -> Path | None:
    """Return the last whole checkpoint, if there is one.

    Raises:
        UserError: it was taken away.
    """
    if not (folder / "latest").exists():
        return None
    found = folder / (folder / "latest").read_text().strip()
    if not (found / "state.json").is_file():
        names = ", ".join(path.name for path in sorted(folder.glob("step-*"))) or "none"
        raise UserError(
            f"{found} is gone; there are: {names}",
            fix=f"write the name of one into {folder / 'latest'}, or remove that file to start anew",
        )
    return found


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what `save` was given, and `updates`, the steps that Adam counted."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    return state


def restore(engine: Any, checkpoint: Path) -> None:
    """Set weights and moments from a checkpoint; on every rank, after a step of any outcome.

    That step makes the optimizer create its state, which is then overwritten.
    """
    tensors = Reader(checkpoint)
    stage = engine.zero_optimization_stage()
    _link(engine)
    for name, parameter in engine.module.named_parameters():
        weight = tensors[name].to(engine.device)
        with torch.no_grad(), _whole(parameter, stage, write=True):
            if stage < 3 or engine.global_rank == 0:
                parameter.copy_(weight)
        if not parameter.requires_grad:
            continue
        if stage:
            deepspeed.utils.safe_set_full_fp32_param(parameter, weight)
        for key in MOMENTS:
            moment = tensors[f"{name}#{key}"].to(engine.device)
            if stage:
                deepspeed.utils.safe_set_full_optimizer_state(parameter, moment, key)
            else:
                engine.optimizer.state[parameter][key].copy_(moment)
    updates = read_state(checkpoint)["updates"]
    for values in _adam(engine).state.values():
        values["step"].fill_(updates)


def load_weights(module: nn.Module, checkpoint: Path) -> None:
    """Set a whole module's parameters from a checkpoint."""
    tensors = Reader(checkpoint)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[name])


class Reader:
    """The tensors of a checkpoint by name, read from disk as they are asked for."""

    def __init__(self, checkpoint: Path) -> None:
        self._files: dict[str, Any] = {}
        for path in sorted(checkpoint.glob("*.safetensors")):
            file: Any = safe_open(path, "pt")
            self._files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._files:
            raise UserError(
                f"the checkpoint has no {name}", fix="was the model changed? choose another output"
            )
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor


def _tensors(engine: Any) -> Iterator[tuple[str, Tensor]]:
    stage = engine.zero_optimization_stage()
    _link(engine)
    for name, parameter in engine.module.named_parameters():
        if stage and parameter.requires_grad:
            yield name, deepspeed.utils.safe_get_full_fp32_param(parameter)
            for key in MOMENTS:
                yield (
                    f"{name}#{key}",
                    deepspeed.utils.safe_get_full_optimizer_state(parameter, key),
                )
            continue
        with _whole(parameter, stage):
            yield name, parameter.detach().float().clone()
        if parameter.requires_grad:
            for key in MOMENTS:
                yield f"{name}#{key}", engine.optimizer.state[parameter][key]


def _whole(parameter: nn.Parameter, stage: int, *, write: bool = False) -> Any:
    """Gather a parameter that ZeRO 3 cut among the ranks."""
    return deepspeed.zero.GatheredParameters(
        [parameter], modifier_rank=0 if write else None, enabled=stage == 3
    )


def _link(engine: Any) -> None:
    """Tell each parameter where its moments lie, under ZeRO 1 and 2.

    DeepSpeed 0.19 does so after the first of several parameter groups was stepped, for that one only.
    """
    if engine.zero_optimization_stage() not in (1, 2):
        return
    optimizer = engine.optimizer
    for parameters, flat in zip(
        optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True
    ):
        deepspeed.utils.lazy_init_hp_params_optimizer_state(
            parameters, flat, optimizer.optimizer.state
        )


def _adam(engine: Any) -> torch.optim.Optimizer:
    """Return the AdamW inside DeepSpeed's wrapping."""
    inner: torch.optim.Optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return inner


def _updates(engine: Any) -> float:
    return float(next(iter(_adam(engine).state.values()))["step"])


def _write(shard: dict[str, Tensor], path: Path) -> None:
    save_file(shard, path)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
