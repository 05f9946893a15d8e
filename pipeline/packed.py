"""A plan as a plain PyTorch data set, for any trainer: plain loops, `transformers.Trainer`, Lightning.

    dataset = PackedDataset(plan)
    DataLoader(
        dataset, batch_size=plan.packs_per_step, collate_fn=collate, num_workers=4,
        multiprocessing_context="forkserver",
    )

Read in order (no shuffling: the plan has shuffled), batches of `packs_per_step` are the plan's steps.
`PlanLoader` gives the same rows faster, with state and report; use this where a trainer makes its own
loaders. Workers are best not forked from the trainer: a process with threads does not fork safely.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from catalog import Catalog
from catalog.images import ImageStore
from pipeline.collate import Collator
from pipeline.plan import Plan


class PackedDataset(Dataset[dict[str, Tensor]]):
    """The packs of a plan from a step on; item i is one packed row.

    An item has `tokens`, `labels`, `positions` (T,) int64, `segments` (T,) int32, `pixels`
    (n, 3, S, S) uint8, and `loss_tokens`, the learnt tokens of its whole step: what
    `pipeline.batch.Batch` says of them holds here.
    """

    def __init__(
        self,
        plan: Plan | Path | str,
        *,
        catalog: Path | None = None,
        start_step: int = 0,
        verify: bool = False,
    ) -> None:
        opened = plan if isinstance(plan, Plan) else Plan.open(plan)
        self._file, self._catalog = opened.file, catalog or opened.file.parents[2]
        self._each, self._start, self._verify = opened.packs_per_step, start_step, verify
        self._length = (opened.steps - start_step) * opened.packs_per_step
        # Looked up here: Delta's reader does not live on in a forked process.
        self._images = Catalog.open(self._catalog).files("images")
        self._collator: Collator | None = None

    def _opened(self) -> Collator:
        store = ImageStore(self._images, self._catalog / ".cache")
        plan = Plan(self._file)
        return Collator(plan, self._catalog, verify=self._verify, pin=False, store=store)

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        # Open files do not travel: each process opens its own.
        return self.__dict__ | {"_collator": None}

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Return a packed row.

        Raises:
            IndexError: there is no such row.
            CuveeError: a sample cannot be loaded; says which, from which file, in which step.
        """
        if not 0 <= number < self._length:
            raise IndexError(number)
        if self._collator is None:
            self._collator = self._opened()
        step, place = divmod(number, self._each)
        draft = self._collator.draft(self._start + step, range(place, place + 1))
        self._collator.fill(draft, 0)
        row = {name: getattr(draft.batch, name)[0] for name in _ROWS}
        loss_tokens = torch.tensor(draft.batch.loss_tokens)
        return {**row, "pixels": draft.batch.pixels, "loss_tokens": loss_tokens}


_ROWS = ("tokens", "labels", "positions", "segments")


def collate(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join packed rows to a batch: (B, T) rows, (N, 3, S, S) pixels in the rows' order."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in _ROWS}
    pixels = torch.cat([row["pixels"] for row in rows])
    return {**batch, "pixels": pixels, "loss_tokens": rows[0]["loss_tokens"]}
