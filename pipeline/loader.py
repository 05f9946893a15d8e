"""A plan's steps -> batches, the same for any number of ranks and workers, from any step on."""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl
import torch
from torch import Tensor

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.parts import Part
from pipeline.batch import IGNORE, IMAGE_TOKEN, Batch
from pipeline.encode import PICTURE, from_bytes, truncate
from pipeline.image import decode, normalise
from pipeline.plan import Pack, Plan
from pipeline.policy import ImagePolicy

WAIT = 600.0
"""Longest wait for one batch, in seconds, before the run stops with a message."""


@dataclass(slots=True)
class LoaderMetrics:
    """What the loader measured of itself."""

    batches: int = 0
    samples: int = 0
    pixels: int = 0
    stall: float = 0.0
    """Seconds the consumer waited."""
    depth: int = 0
    """Batches ready when the last one was asked for."""


class PlanLoader:
    """One rank's batches of a plan: one batch a step, `packs_per_step / world_size` rows each.

    Rank r has the r-th run of the step's packs, so the ranks' rows in rank order are the step's.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        catalog: Path | None = None,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        workers: int = 2,
        prefetch: int = 4,
        verify: bool = False,
    ) -> None:
        if plan.packs_per_step % world_size:
            raise UserError(
                f"{plan.packs_per_step} packs a step do not divide among {world_size} ranks",
                fix="choose ranks that divide packs_per_step, or plan with another packs_per_step",
            )
        if not 0 <= rank < world_size or not 0 <= start_step <= plan.steps:
            raise UserError(
                f"rank {rank} of {world_size}, step {start_step} of {plan.steps}",
                fix="ranks and steps count from 0",
            )
        self.plan, self.rank, self.world_size = plan, rank, world_size
        self.step, self.workers, self.prefetch = start_step, workers, prefetch
        self.verify, self.metrics = verify, LoaderMetrics()
        self._folder = catalog or plan.file.parents[2]
        self._store = Catalog.open(self._folder).image_store()
        self._policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
        self._length = int(plan.header["recipe"]["packing"]["tokens"])
        self._parts: dict[int, tuple[Part, pl.DataFrame]] = {}
        for number, part in enumerate(plan.header["parts"]):
            file = self._folder / part
            if not file.exists():
                raise UserError(f"{file} is gone", fix="run `cuvee plan` again")
            frame = pl.read_parquet(file, columns=["sample_id", "image_ids"])
            self._parts[number] = (Part(file), frame)

    def state(self) -> dict[str, str | int]:
        """Return all that is needed to go on: the plan and the next step."""
        return {"plan": self.plan.id, "step": self.step}

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from the current step on, prepared ahead by threads."""
        if not self.workers:
            while self.step < self.plan.steps:
                started = perf_counter()
                batch = self.batch(self.step)
                yield self._count(batch, perf_counter() - started)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        ahead: deque[Future[Batch]] = deque()
        following = self.step
        try:
            while self.step < self.plan.steps:
                while following < self.plan.steps and len(ahead) < self.prefetch:
                    ahead.append(pool.submit(self.batch, following))
                    following += 1
                started = perf_counter()
                self.metrics.depth = sum(future.done() for future in ahead)
                try:
                    batch = ahead.popleft().result(timeout=WAIT)
                except TimeoutError as error:
                    raise CuveeError(f"step {self.step} was not loaded in {WAIT:g} s") from error
                yield self._count(batch, perf_counter() - started)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, batch: Batch, waited: float) -> Batch:
        self.step += 1
        self.metrics.batches += 1
        self.metrics.samples += batch.samples
        self.metrics.pixels += batch.pixels.numel() // 3
        self.metrics.stall += waited
        return batch

    def batch(self, number: int) -> Batch:
        """Return this rank's batch of a step.

        Raises:
            CuveeError: a sample cannot be loaded; says which, from which file, in which step.
        """
        step = self.plan.step(number)
        share = len(step.packs) // self.world_size
        mine = range(self.rank * share, (self.rank + 1) * share)
        shape = (share, self._length)
        tokens = torch.zeros(shape, dtype=torch.int64)
        labels = torch.full(shape, IGNORE, dtype=torch.int64)
        positions = torch.zeros(shape, dtype=torch.int64)
        segments = torch.zeros(shape, dtype=torch.int32)
        tiles: list[Tensor] = []
        for row, place in enumerate(mine):
            self._fill(
                number,
                step.packs[place],
                tokens[row],
                labels[row],
                positions[row],
                segments[row],
                tiles,
            )
        side = self._policy.size
        pixels = torch.cat(tiles) if tiles else torch.zeros((0, 3, side, side), dtype=torch.uint8)
        return Batch(
            tokens=tokens,
            labels=labels,
            positions=positions,
            segments=segments,
            pixels=normalise(pixels),
            step=number,
            packs=tuple(mine),
            loss_tokens=step.loss_tokens,
            samples=sum(len(step.packs[place].rows) for place in mine),
        )

    def _fill(
        self,
        step: int,
        pack: Pack,
        tokens: Tensor,
        labels: Tensor,
        positions: Tensor,
        segments: Tensor,
        tiles: list[Tensor],
    ) -> None:
        """Write a pack's samples, one after the other, into the row of each tensor."""
        start = 0
        for member, (part, row) in enumerate(zip(pack.parts, pack.rows, strict=True), start=1):
            encoded, frame = self._parts[int(part)]
            sample_id, image_ids = frame.row(int(row))
            try:
                ids, mask, pictures = self._sample(encoded[int(row)], image_ids)
            except (OSError, ValueError, RuntimeError, CuveeError) as error:
                raise CuveeError(
                    f"step {step}: sample {sample_id} in {encoded.path}: {error}\n"
                    "Fix: run `cuvee verify` to find damaged pictures, then ingest them again"
                ) from error
            end = start + len(ids)
            tokens[start:end] = ids
            labels[start:end] = torch.where(mask, ids, IGNORE)
            positions[start:end] = torch.arange(len(ids))
            segments[start:end] = member
            tiles += pictures
            start = end

    def _sample(
        self, data: memoryview, image_ids: list[str]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return a sample's tokens and loss mask, pictures unfolded, and the tiles of each picture."""
        pictures = [decode(self._bytes(image_id), self._policy) for image_id in image_ids]
        visual = sum(len(tiles) for tiles in pictures) * self._policy.tokens
        # The plan counts on a sample longer than a pack being cut to its room for text.
        short, mask = truncate(*from_bytes(data), self._length - visual)
        ids = short.astype(np.int64)
        repeats = np.ones(len(ids), np.int64)
        marks = ids == PICTURE
        repeats[marks] = [len(tiles) * self._policy.tokens for tiles in pictures]
        ids[marks] = IMAGE_TOKEN
        unfolded = torch.from_numpy(np.repeat(ids, repeats))
        return unfolded, torch.from_numpy(np.repeat(mask, repeats)), pictures

    def _bytes(self, image_id: str) -> memoryview:
        data = self._store.get(image_id)
        if self.verify and hashlib.sha256(data).hexdigest() != image_id:
            raise CuveeError(f"picture {image_id} is damaged: its bytes do not match its id")
        return data
