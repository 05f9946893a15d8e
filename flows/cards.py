"""Samples and predictions as cards for a page: a small picture, boxes on it, questions and answers."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from PIL import Image, ImageOps

from catalog import Catalog
from catalog.errors import CuveeError
from model.benchmarks import Row, question, said
from model.metrics.refcoco import iou

SIDE = 384
"""Longest side of a picture on a page, in pixels; smaller pictures stay as they are."""
QUALITY = 72
LONGEST = 240
"""Characters of a text that a card shows."""
SHORT = 100
"""Characters of a generated answer that a card shows."""
MOST_BOXES = 12
Verdict = Literal["right", "partly right", "wrong"]
Kind = Literal["true", "predicted"]
KINDS: tuple[Kind, ...] = ("true", "predicted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A box on a picture, all four numbers in percent of its sides."""

    x: float
    y: float
    width: float
    height: float
    kind: Kind
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One question with its picture."""

    question: str
    lines: tuple[tuple[str, str], ...]
    """(name, text), below the question."""
    picture: str | None
    """A data URL."""
    note: str | None = None
    """Why there is no picture, or that there are more."""
    size: tuple[int, int] = (1, 1)
    """Width and height of the embedded picture."""
    boxes: tuple[Drawn, ...] = ()
    verdict: Verdict | None = None


def sample_cards(catalog: Catalog, each: int) -> dict[str, list[Card]]:
    """Return the cards of a few samples of each source: those with the lowest ids, so always the same.

    Samples with pictures come before those without.
    """
    ids = (
        catalog.samples()
        .select("source", "sample_id", text=pl.col("n_images") == 0)
        .sort("source", "text", "sample_id")
        .group_by("source", maintain_order=True)
        .head(each)
        .collect()["sample_id"]
    )
    columns = (
        "source",
        "sample_id",
        "task",
        "image_ids",
        "widths",
        "heights",
        "messages",
        "regions",
    )
    rows = (
        catalog.samples()
        .filter(pl.col("sample_id").is_in(ids.implode()))
        .select(*columns)
        .sort("source", "sample_id")
        .collect()
    )
    cards: dict[str, list[Card]] = {}
    for row in rows.iter_rows(named=True):
        cards.setdefault(row["source"], []).append(_sample(catalog, row))
    return cards


def _sample(catalog: Catalog, row: Row) -> Card:
    answer = said(row)
    picture, size, note = _first_picture(catalog, row["image_ids"])
    boxes = [
        _drawn(region["box"], row["widths"][0], row["heights"][0], "true", region["label"])
        for region in row["regions"]
        if region["box"] is not None and region["image"] == 0 and row["widths"]
    ]
    return Card(
        question=clip(question(row)),
        lines=() if answer is None else (("answer", clip(answer)),),
        picture=picture,
        note=note,
        size=size,
        boxes=tuple(boxes[:MOST_BOXES]),
    )


def prediction_cards(catalog: Catalog, items: Sequence[Mapping[str, Any]], each: int) -> list[Card]:
    """Return the cards of a source's judged items, wrong and right in turn, always the same ones."""
    ordered = sorted(items, key=lambda item: str(item["sample_id"]))
    wrong = [item for item in ordered if (item["score"] or 0.0) < 0.5]
    right = [item for item in ordered if (item["score"] or 0.0) >= 0.5]
    half = each // 2
    chosen = wrong[: max(half, each - len(right))] + right[: max(each - half, each - len(wrong))]
    return [_prediction(catalog, item) for item in chosen]


def wrong_cards(catalog: Catalog, items: Sequence[Mapping[str, Any]], each: int) -> list[Card]:
    """Return the cards of the items with the lowest scores, with all that was taken for true."""
    ordered = sorted(items, key=lambda item: (item["score"], str(item["sample_id"])))
    return [_prediction(catalog, item, all_references=True) for item in ordered[:each]]


def _prediction(catalog: Catalog, item: Mapping[str, Any], *, all_references: bool = False) -> Card:
    picture, size, note = _first_picture(catalog, item["image_ids"])
    lines = [("model", clip(item["prediction"], SHORT) or "(nothing)")]
    boxes = []
    for kind in KINDS:
        if (box := item[f"{kind}_box"]) is not None:
            boxes.append(_drawn(box, item["width"], item["height"], kind, f"{kind} box"))
    if item["references"]:
        shown = _tally if all_references else _most_said
        lines.append(("reference", clip(shown(item["references"]))))
    if all_references and item["true_box"] and item["predicted_box"]:
        lines.append(("IoU", f"{iou(item['predicted_box'], item['true_box']):.2f}"))
    blind = item["blind_answer"]
    if blind is not None:
        lines.append(("blind", clip(blind, SHORT) or "(nothing)"))
    return Card(
        question=clip(item["question"]),
        lines=tuple(lines),
        picture=picture,
        note=note,
        size=size,
        boxes=tuple(boxes),
        verdict=_verdict(item["score"]),
    )


def _verdict(score: float | None) -> Verdict | None:
    if score is None:
        return None
    return "right" if score >= 1.0 - 1e-9 else "partly right" if score > 0 else "wrong"


def _most_said(references: Iterable[str]) -> str:
    """
    >>> _most_said(["a", "b", "b"])
    'b'
    """
    return Counter(references).most_common(1)[0][0]


def _tally(references: Iterable[str]) -> str:
    """
    >>> _tally(["a", "b", "b"]), _tally(["x"])
    ('b ×2, a', 'x')
    """
    counted = Counter(text.strip() for text in references).most_common()
    return ", ".join(f"{text} ×{times}" if times > 1 else text for text, times in counted)


def clip(text: str, longest: int = LONGEST) -> str:
    """Return the beginning of a text.

    >>> clip("abcdef", 4), clip(" b ")
    ('abc…', 'b')
    """
    text = text.strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _drawn(
    box: Sequence[float],
    width: float,
    height: float,
    kind: Kind,
    label: str,
) -> Drawn:
    """Place a box of pixels, clipped to its picture, corners in order."""
    x0, x1 = sorted(min(max(value / width, 0.0), 1.0) for value in (box[0], box[2]))
    y0, y1 = sorted(min(max(value / height, 0.0), 1.0) for value in (box[1], box[3]))
    places = [round(100 * value, 2) for value in (x0, y0, x1 - x0, y1 - y0)]
    return Drawn(
        x=places[0], y=places[1], width=places[2], height=places[3], kind=kind, label=label
    )


def _first_picture(
    catalog: Catalog, image_ids: Sequence[str]
) -> tuple[str | None, tuple[int, int], str | None]:
    """Return a data URL of the first picture, its size, and a remark."""
    if not image_ids:
        return None, (1, 1), None
    try:
        url, size = thumbnail(catalog.image_bytes(image_ids[0]))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, CuveeError) as error:
        # A page about the data shows what is wrong with them.
        return None, (1, 1), f"picture cannot be shown: {clip(str(error))}"
    more = len(image_ids) - 1
    return url, size, f"and {more} more picture{'s' if more > 1 else ''}" if more else None


def thumbnail(data: memoryview | bytes) -> tuple[str, tuple[int, int]]:
    """Return a picture as a small WebP data URL, upright, and its width and height.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: no picture.
    """
    opened = Image.open(io.BytesIO(data))
    opened.draft("RGB", (SIDE, SIDE))
    picture = ImageOps.exif_transpose(opened)
    if picture.mode in ("P", "LA", "PA", "RGBA"):
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/webp;base64,{text}", (picture.width, picture.height)
