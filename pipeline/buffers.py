"""Memory for batches, used again: fresh pages from the system cost a tenth of what fills them."""

import weakref
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEPT = 4
"""Free buffers kept, at most."""


class Buffers:
    """Hands out memory, and has it back when no tensor over it is left."""

    def __init__(self) -> None:
        # One step each, from any thread and in the middle of a garbage collection: no lock needed.
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT)

    def bytes(self, size: int) -> Tensor:
        """Return (size,) uint8 with anything in it."""
        whole = self._taken(size)
        # The tensor holds this view: the view's end says that there is no tensor any more.
        view = whole[:size]
        weakref.finalize(view, self._free.append, whole).atexit = False
        return torch.from_numpy(view)

    def _taken(self, size: int) -> NDArray[np.uint8]:
        while self._free:
            try:
                whole = self._free.popleft()
            except IndexError:
                break
            # One that is too small is let go: after some batches all are of the largest size.
            if len(whole) >= size:
                return whole
        return np.empty(size, np.uint8)
