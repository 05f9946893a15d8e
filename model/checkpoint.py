"""Checkpoints that any number of ranks and any engine can go on from.

A checkpoint holds whole tensors, not ranks' shares: for each parameter its fp32 weight and, where it
learns, both Adam moments, in safetensors files of about a gigabyte, and `state.json`. The folder is
written aside and renamed, and `latest` is set last: a kill at any moment leaves a usable run.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from catalog.errors import UserError
from model.engine import Engine

SHARD = 1 << 30
"""Bytes after which a new file is begun."""


def save(engine: Engine, folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint `step-N`, N from `state`, and drop all but the last `keep`; on every rank.

    Gathers one tensor at a time: rank 0 needs memory for one file's worth.
    """
    final = folder / f"step-{state['step']:08}"
    staged = folder / f".{final.name}"
    if engine.rank == 0:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    shard: dict[str, Tensor] = {}
    size = number = 0
    for name, tensor in engine.tensors():
        if engine.rank == 0:
            shard[name] = tensor.cpu().contiguous()
            size += tensor.numel() * 4
            if size >= SHARD:
                _write(shard, staged / f"{number:05}.safetensors")
                shard, size, number = {}, 0, number + 1
    if engine.rank == 0:
        _write(shard, staged / f"{number:05}.safetensors")
        (staged / "state.json").write_text(json.dumps({**state, "updates": engine.updates()}))
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
    torch.distributed.barrier()
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


def restore(engine: Engine, checkpoint: Path) -> None:
    """Set weights and moments from a checkpoint; on every rank, after a step of any outcome.

    That step makes the optimizer create its state, which is then overwritten.
    """
    engine.restore(Reader(checkpoint).__getitem__, read_state(checkpoint)["updates"])


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


def _write(shard: dict[str, Tensor], path: Path) -> None:
    save_file(shard, path)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
