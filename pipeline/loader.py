"""A plan's steps -> batches, the same for any number of ranks and workers, from any step on.

Threads fill the rows of the next batches, in the order in which they are needed; decoding and
resizing release the interpreter's lock.
"""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from pathlib import Path
from time import monotonic, perf_counter

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from pipeline.batch import Batch
from pipeline.collate import WAIT, Collator, Draft, OnDamage
from pipeline.plan import Plan
from pipeline.ranks import packs_of_rank

TOGETHER = 32
"""Packs, at least, whose bytes are read together from an object store: near ones are one request."""
FETCHERS = 3
"""How many times that is read ahead: answers take long, not much work."""


@dataclass(slots=True, kw_only=True)
class LoaderReport:
    """What the loader measured of itself, since it was made."""

    batches: int = 0
    samples: int = 0
    pixels: int = 0
    damaged: int = 0
    """Pictures that were substituted."""
    stall: float = 0.0
    """Seconds the consumer waited for batches."""
    seconds: float = 0.0
    """Seconds from the first batch asked for to the last one given."""
    depth: int = 0
    """Batches that stood ready when the last one was asked for."""

    @property
    def stalled(self) -> float:
        """Share of the time that the consumer waited."""
        return self.stall / self.seconds if self.seconds else 0.0

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def pixels_per_second(self) -> float:
        return self.pixels / self.seconds if self.seconds else 0.0


class PlanLoader:
    """One rank's batches of a plan: one batch a step, `packs_per_step / world_size` rows each.

    Rank r has the r-th run of the step's packs (`pipeline.ranks`): the ranks' rows in rank order are
    the step's.

    With `verify`, every picture is hashed when it is read. A picture that is damaged, or cannot be
    decoded, stops the run; with `on_damage="substitute"` it is counted and becomes grey tiles, as
    many as were planned, and nothing is learnt from its sample.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        catalog: Path | str | Catalog | None = None,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        workers: int = 2,
        prefetch: int = 4,
        verify: bool = False,
        on_damage: OnDamage = "stop",
        wait: float = WAIT,
    ) -> None:
        self._places = packs_of_rank(plan.packs_per_step, rank, world_size)
        if not 0 <= start_step <= plan.steps:
            raise UserError(
                f"step {start_step} of {plan.steps}", fix="start at a step of the plan, from 0 on"
            )
        self.plan, self.rank, self.world_size = plan, rank, world_size
        self.step, self.workers, self.prefetch = start_step, workers, prefetch
        self.wait, self.report = wait, LoaderReport()
        self._collator = Collator(
            plan, catalog or plan.file.parents[2], verify=verify, on_damage=on_damage
        )

    def state(self) -> dict[str, str | int]:
        """Return all that is needed to go on: the plan and the next step."""
        return {"plan": self.plan.id, "step": self.step}

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from the current step on, prepared ahead by threads.

        Raises:
            CuveeError: a sample cannot be loaded (says which, from which file, in which step), or a
                batch was not ready in time.
        """
        began = perf_counter()
        for batch, damaged, waited, depth in self._alone() if not self.workers else self._ahead():
            self.step += 1
            report = self.report
            report.batches += 1
            report.samples += batch.samples
            report.pixels += batch.pixels.numel() // 3
            report.damaged += damaged
            report.stall += waited
            report.depth = depth
            now = perf_counter()
            report.seconds, began = report.seconds + now - began, now
            yield batch

    def _alone(self) -> Iterator[tuple[Batch, int, float, int]]:
        while self.step < self.plan.steps:
            started = perf_counter()
            draft = self._collator.draft(self.step, self._places)
            fetch = cache(partial(self._collator.fetch, [draft]))
            fetched = fetch if self._collator.remote else None
            rows = range(len(draft.packs))
            damaged = sum(self._collator.fill(draft, row, fetched) for row in rows)
            yield draft.batch, damaged, perf_counter() - started, 0

    def _ahead(self) -> Iterator[tuple[Batch, int, float, int]]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        remote = self._collator.remote is not None
        fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch") if remote else None
        together = ceil(TOGETHER / len(self._places)) if remote else 1
        prefetch = max(self.prefetch, FETCHERS * together) if remote else self.prefetch
        ahead: deque[tuple[Draft, list[Future[int]]]] = deque()
        following = self.step
        try:
            while self.step < self.plan.steps:
                started = perf_counter()
                while following < self.plan.steps and len(ahead) + together <= prefetch:
                    last = min(following + together, self.plan.steps)
                    drafts = [self._collator.draft(n, self._places) for n in range(following, last)]
                    fetched = None
                    if fetchers:
                        fetched = partial(
                            fetchers.submit(self._collator.fetch, drafts).result, WAIT
                        )
                    for draft in drafts:
                        fill = partial(self._collator.fill, draft, fetched=fetched)
                        # A task a row: all threads work on the batch that is needed first.
                        rows = range(len(draft.packs))
                        ahead.append((draft, [pool.submit(fill, row) for row in rows]))
                    following = last
                depth = sum(all(future.done() for future in futures) for _, futures in ahead)
                draft, futures = ahead.popleft()
                damaged = self._filled(futures)
                yield draft.batch, damaged, perf_counter() - started, depth
        finally:
            for each in (fetchers, pool):
                # When Python ends, its threads have ended already.
                if each and not sys.is_finalizing():
                    each.shutdown(wait=False, cancel_futures=True)

    def _filled(self, futures: list[Future[int]]) -> int:
        """Wait for the rows of a batch; return how many pictures were substituted."""
        deadline = monotonic() + self.wait
        try:
            return sum(future.result(timeout=deadline - monotonic()) for future in futures)
        except TimeoutError as error:
            raise CuveeError(
                f"step {self.step} was not loaded in {self.wait:g} s\n"
                "Fix: see whether the catalog's disk answers; or give the loader more time"
            ) from error
