"""One question about one picture file: the answer of a trained run, and the boxes in it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from catalog.errors import UserError
from model.answer import Answerer
from model.evaluate import open_run
from model.quantise import Precision
from pipeline.boxes import BOXES
from pipeline.grids import Box
from pipeline.masks import Mask
from pipeline.spots import from_hex, painted

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a run says."""

    text: str
    boxes: tuple[Box, ...]
    """In pixels of the upright picture, in the order of the text."""
    masks: tuple[Mask, ...]
    """(H, W) of the upright picture: one a box, or none where the run does not draw."""


def ask(
    run: Path, picture: Path, question: str, *, longest: int = 64, precision: Precision = "fp32"
) -> Reply:
    """Ask a finished run, as its evaluation would: same template, same picture policy.

    Args:
        run: its folder, or its run file.
        picture: a picture file; shown upright.
        question: without a mark for the picture.
        longest: new tokens at most.
        precision: of the weights.

    Raises:
        UserError: there is no such run or picture.
    """
    opened = open_run(run)
    data, (width, height) = _read(picture)
    turns = [
        {"role": "user", "content": f"<image>\n{question}", "loss": None},
        {"role": "assistant", "content": "", "loss": None},
    ]
    row = {
        "task": "vqa",
        "messages": turns,
        "regions": [],
        "n_images": 1,
        "widths": [width],
        "heights": [height],
        "image_ids": [picture.name],
    }
    answerer = Answerer(opened.model, opened.encoder, opened.policy, precision=precision)
    [answer] = answerer([row], {picture.name: data}, longest=longest, batch_size=1, blind=False)
    boxes = BOXES[opened.encoder.boxes].read(answer.text, width, height)
    masks = [
        painted(from_hex(cells), box, width, height)
        for cells, box in zip(answer.masks, boxes, strict=False)
    ]
    return Reply(text=answer.text, boxes=tuple(boxes), masks=tuple(masks))


def draw(picture: Path, boxes: Sequence[Box], out: Path, masks: Sequence[Mask] = ()) -> None:
    """Write a copy of a picture, upright, with boxes on it, and masks shining through."""
    upright = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    for number, mask in enumerate(masks):
        shade = Image.fromarray(mask.astype(np.uint8) * 110)
        upright.paste(COLOURS[number % len(COLOURS)], (0, 0), shade)
    pen = ImageDraw.Draw(upright)
    line = max(2, min(upright.size) // 150)
    for number, box in enumerate(boxes):
        pen.rectangle(box, outline=COLOURS[number % len(COLOURS)], width=line)
    upright.save(out)


def _read(picture: Path) -> tuple[bytes, tuple[int, int]]:
    try:
        data = picture.read_bytes()
        opened = Image.open(io.BytesIO(data))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{picture}: no such file", fix="check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{picture} is no picture", fix="give a JPEG, PNG, ...") from error
    turned = opened.getexif().get(0x0112, 1) >= 5
    return data, opened.size[::-1] if turned else opened.size
