"""PDFs as pages: a page is a picture, its text layer the answer, its text's rectangles regions.

For folders of PDFs such as CC-MAIN-2021-31-PDF-UNTRUNCATED, unpacked from their zips. A scanned page
without a text layer has no answer. Rectangles are cut to the page; `outside` counts those beyond it.
"""

import contextlib
import ctypes
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from catalog.record import ImageRef, Record, Region
from pipeline.containers.documents import PDF_DPI, PDFIUM
from pipeline.grids import Box
from pipeline.sources.base import Bad, Item, Source, refusal, relative
from pipeline.sources.rows import records
from pipeline.sources.words import page, word

STEPS = 256
"""PDFium places points on whole pixels: it is asked at so many a pixel."""


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split, `train`: the PDFs of the folder, and its folders with PDFs below."""
    places = {root / file.relative_to(root).parts[0] for file in _below(root)}
    return {"train": tuple(sorted(places))} if places else {}


def _below(place: Path) -> Iterator[Path]:
    found = place.rglob("*") if place.is_dir() else [place]
    return (file for file in found if file.suffix.lower() == ".pdf" and file.is_file())


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a page, file by file."""
    for place in files:
        for file in sorted(_below(place)):
            yield from _document(split, relative(file, root), file)


def _document(split: str, name: str, file: Path) -> Iterator[Item]:
    try:
        document, about = _open(file)
    except Bad as bad:
        yield refusal("pdf", split, name, name, bad)
        return
    try:
        record = partial(_record, split, name, document, about)
        yield from records("pdf", split, name, range(about["pages"]), record, key="#")
    finally:
        with PDFIUM:
            document.close()


def pages(root: Path, path: str) -> tuple[ImageRef, ...]:
    """Return all pages of a PDF as pictures; of one that is not there, the first.

    Raises:
        Bad: it is broken, or asks for a password.
    """
    count = 1
    if (root / path).is_file():
        document, about = _open(root / path)
        count = about["pages"]
        with PDFIUM:
            document.close()
    return tuple(ImageRef(path=path, member=str(number)) for number in range(count))


def _open(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return a PDF, and what it says of itself."""
    with PDFIUM:
        try:
            document = pdfium.PdfDocument(file)
            about = document.get_metadata_dict(skip_empty=True)
            return document, {"pages": len(document), "metadata": about}
        except (pdfium.PdfiumError, ValueError) as error:
            raise Bad("unreadable_file", f"no readable PDF: {error}") from error


def _record(
    split: str, file: str, document: Any, about: dict[str, Any], position: int, number: int
) -> Record:
    with PDFIUM:
        try:
            with contextlib.closing(document[number]) as sheet:
                text, regions, outside = _layer(sheet)
                size, rotation = sheet.get_size(), sheet.get_rotation()
        except (pdfium.PdfiumError, ValueError, OverflowError) as error:
            raise Bad("unreadable_file", f"page {number}: {error}") from error
    return page(
        source="pdf",
        split=split,
        native_id=f"{file}#{number}",
        image=ImageRef(path=file, member=str(number)),
        text=text,
        regions=regions,
        license="as its publisher says",
        extra={
            "page": number,
            "points": list(size),
            "rotation": rotation,
            "outside": outside,
            **about,
        },
        file=file,
    )


def _layer(sheet: Any) -> tuple[str | None, list[Region], int]:
    """Return a page's text, its rectangles, and how many of them lie outside the page."""
    width, height = (math.ceil(side * PDF_DPI / 72) for side in sheet.get_size())
    regions, outside = [], 0
    with contextlib.closing(sheet.get_textpage()) as layer:
        text = _clean(layer.get_text_bounded())
        for number in range(layer.count_rects()):
            rectangle = layer.get_rect(number)
            x0, y0, x1, y1 = _pixels(sheet, rectangle, width, height)
            box = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
            if box[0] >= box[2] or box[1] >= box[3]:
                outside += 1
            else:
                label = _clean(layer.get_text_bounded(*rectangle))
                regions.append(word(label, box=box, extra={}))
    return text or None, regions, outside


def _pixels(
    sheet: Any, rectangle: tuple[float, float, float, float], width: int, height: int
) -> Box:
    """Return a rectangle of the page (left, bottom, right, top in points) on its picture."""
    corners = []
    for x, y in (rectangle[:2], rectangle[2:]):
        column, row = ctypes.c_int(), ctypes.c_int()
        pdfium_c.FPDF_PageToDevice(sheet, 0, 0, width * STEPS, height * STEPS, 0, x, y, column, row)
        corners.append((column.value / STEPS, row.value / STEPS))
    (xa, ya), (xb, yb) = corners
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def _clean(text: str) -> str:
    """Return PDFium's text with plain line breaks; it marks a hyphen at a line's end by U+FFFE.

    >>> _clean("mul\\ufffetimodal\\r\\ndata ")
    'mul-\\ntimodal\\ndata'
    """
    return text.replace("\r\n", "\n").replace("\ufffe", "-\n").strip()


PDF = Source(
    name="pdf",
    title="PDFs as pages",
    family="ocr",
    files=("*.pdf, here and in folders below",),
    splits=splits,
    reader=read,
    license="as its publisher says",
    homepage="https://digitalcorpora.org/corpora/file-corpora/cc-main-2021-31-pdf-untruncated",
)
