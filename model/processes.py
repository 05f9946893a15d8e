"""The processes of a run find each other, and keep other runs out of their folder."""

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import torch

from catalog.errors import UserError
from model.launch import free_port

PATIENCE = 15.0
"""Seconds to wait for the processes of a killed run to let go of its folder."""


@contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """Join the other processes of the run, or stay joined; give this one's rank and their number."""
    if torch.distributed.is_initialized():
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
        return
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    alone["MASTER_PORT"] = str(free_port())
    mine = {} if "RANK" in os.environ else alone
    os.environ.update(mine)
    cuda = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    # Imported here: it looks at the accelerator's name when it is imported.
    import deepspeed
    from deepspeed.utils.logging import logger

    logger.setLevel("ERROR")
    # Shared-memory reduction on CPU would be compiled at the first start, by a compiler or not at all.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with warnings.catch_warnings():
        # DeepSpeed 0.19 calls collectives by the names that torch 2.13 calls old.
        warnings.filterwarnings("ignore", r".*torch\.distributed.* is deprecated", FutureWarning)
        yield from _group(cuda, mine)


def _group(cuda: bool, mine: dict[str, str]) -> Iterator[tuple[int, int]]:
    import deepspeed

    try:
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        deepspeed.init_distributed("nccl" if cuda else "gloo", verbose=False)
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        if torch.distributed.is_initialized():
            deepspeed.comm.destroy_process_group()
        for name in mine:
            os.environ.pop(name, None)


@contextmanager
def alone(folder: Path, rank: int) -> Iterator[None]:
    """Keep other runs out of the folder."""
    if rank:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        deadline = monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if monotonic() > deadline:
                    raise UserError(
                        f"{folder}: another process trains there",
                        fix="wait for it, end it, or choose another `output`",
                    ) from error
                sleep(0.2)
        yield
