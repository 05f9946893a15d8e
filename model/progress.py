"""What a run tells of itself: the terminal, `metrics.jsonl`, TensorBoard."""

import json
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Metrics = dict[str, float]
EVERY = 10.0
"""Seconds between lines where the output is no terminal."""


class Recorder:
    """Writes the metrics of each step; steps from `start` on are written anew."""

    def __init__(self, folder: Path, *, start: int, steps: int, console: Console) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file = folder / "metrics.jsonl"
        forget(self.file, start)
        self._lines = self.file.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        self._console, self._steps, self._told = console, steps, monotonic() - EVERY
        self._damaged = 0
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=steps, completed=start, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._lines.close()
        self._board.close()

    def record(self, metrics: Metrics) -> None:
        """Write the metrics of one step; `step` counts from 0, as in the plan."""
        step = int(metrics["step"])
        self._lines.write(json.dumps(metrics) + "\n")
        for name, value in metrics.items():
            if name != "step":
                self._board.add_scalar(name, value, step)
        text = (
            f"loss {metrics['loss']:.4f}  lr {metrics['lr']:.2e}  "
            f"{metrics['tokens_per_second']:,.0f} tokens/s  "
            f"{metrics['samples_per_second']:,.1f} samples/s  stall {metrics['stall']:.1%}  "
            f"{metrics['ready']:.0f} ready"
        )
        self._damaged += int(metrics["damaged"])
        if self._damaged:
            text += f"  [red]{self._damaged} damaged pictures replaced[/]"
        self._bar.update(self._task, completed=step + 1, text=text)
        last = step + 1 == self._steps
        if not self._console.is_terminal and (last or monotonic() - self._told >= EVERY):
            self._told = monotonic()
            left = self._steps - step - 1
            self._console.print(
                f"step {step + 1}/{self._steps}  {text}  {left} left", highlight=False
            )


def forget(file: Path, start: int) -> None:
    """Drop the lines of steps from `start` on, and a line cut short by a kill."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if step < start:
            kept.append(line + "\n")
    staged = file.with_suffix(".tmp")
    staged.write_text("".join(kept), encoding="utf-8")
    staged.replace(file)
