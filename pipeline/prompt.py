"""A row of `samples` becomes the conversation a model sees; boxes become text in one convention.

Conventions: the papers of Shikra (arXiv:2306.15195), Qwen-VL (arXiv:2308.12966), InternVL
(arXiv:2404.16821) and MiniGPT-v2 (arXiv:2310.09478).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.record import IMAGE

Box = tuple[float, float, float, float]
_NUMBER = r"-?\d+(?:\.\d+)?"
_FOUR = re.compile(rf"({_NUMBER})\D{{1,8}}?({_NUMBER})\D{{1,8}}?({_NUMBER})\D{{1,8}}?({_NUMBER})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFormat:
    """One way to write boxes, relative to the picture's width and height."""

    name: str
    bins: int
    """A coordinate is rounded to a multiple of 1 / bins."""
    template: Callable[[Sequence[int]], str]
    """Four integers 0 .. bins -> text."""
    scale: float
    """What a written number is divided by when read."""

    def write(self, box: Box, width: int, height: int) -> str:
        """Return the text of a box of absolute pixels; what passes the edge is clipped."""
        relative = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        return self.template([round(min(max(c, 0.0), 1.0) * self.bins) for c in relative])

    def read(self, text: str, width: int, height: int) -> list[Box]:
        """Return the boxes in a text, in absolute pixels, corners in order."""
        boxes = []
        for match in _FOUR.finditer(text):
            x0, y0, x1, y1 = (float(value) / self.scale for value in match.groups())
            boxes.append(
                (
                    min(x0, x1) * width,
                    min(y0, y1) * height,
                    max(x0, x1) * width,
                    max(y0, y1) * height,
                )
            )
        return boxes


BOXES: dict[str, BoxFormat] = {
    box.name: box
    for box in (
        BoxFormat(
            name="shikra",
            bins=1000,
            template=lambda v: f"[{','.join(f'{c / 1000:.3f}' for c in v)}]",
            scale=1.0,
        ),
        BoxFormat(
            name="qwen-vl",
            bins=999,
            template=lambda v: f"<box>({v[0]},{v[1]}),({v[2]},{v[3]})</box>",
            scale=999.0,
        ),
        BoxFormat(
            name="internvl",
            bins=1000,
            template=lambda v: f"<box>[[{', '.join(map(str, v))}]]</box>",
            scale=1000.0,
        ),
        BoxFormat(
            name="minigpt-v2",
            bins=100,
            template=lambda v: f"{{{''.join(f'<{c}>' for c in v)}}}",
            scale=100.0,
        ),
    )
}
"""Convention -> how it writes and reads boxes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of the conversation as the chat template takes it."""

    role: str
    content: str
    loss: bool


def conversation(row: Mapping[str, Any], boxes: BoxFormat, system: str | None = None) -> list[Turn]:
    """Return the turns of a samples row; only assistant turns can carry loss.

    A grounding record has an expression and a region: it becomes a question and the region's box.
    """
    turns = [] if system is None else [Turn(role="system", content=system, loss=False)]
    for message in row["messages"]:
        role, content = message["role"], message["content"]
        if role == "user" and row["task"] == "grounding":
            expression = content.removeprefix(f"{IMAGE}\n")
            content = f"{IMAGE}\nWhere is {expression}? Answer with a box."
        learnt = role == "assistant" and message["loss"] is not False
        turns.append(Turn(role=role, content=content, loss=learnt))
    if row["task"] == "grounding" and turns[-1].role == "user":
        written = [
            boxes.write(tuple(region["box"]), row["widths"][image], row["heights"][image])
            for region in row["regions"]
            if region["box"] is not None and (image := region["image"]) < row["n_images"]
        ]
        if written:
            turns.append(Turn(role="assistant", content=" ".join(written), loss=True))
    return turns
