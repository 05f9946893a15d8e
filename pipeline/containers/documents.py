"""Pages of a PDF as pictures, and arrays in a pickle."""

import io
import threading
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium

from catalog.errors import DataError
from pipeline.containers.cells import picture_bytes, step_into
from pipeline.containers.tables import split_member
from pipeline.limits import MAX_PIXELS, Refused
from pipeline.pickles import load_pickle

PDF_DPI = 144
"""Pages are drawn at this resolution: twice the PDF unit, A4 becomes 1191 x 1684 pixels."""
MAX_PICKLE = 4 * 1024**3

PDFIUM = threading.Lock()
"""PDFium is not thread-safe, not even between documents."""


class Pdf:
    """A PDF whose pages are drawn when asked for."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        with PDFIUM:
            try:
                self._document = pdfium.PdfDocument(path)
            except pdfium.PdfiumError as error:
                raise Refused("unreadable_file", f"{self._name}: {error}") from error

    def read(self, member: str) -> bytes:
        """Return page `member`, counted from 0, as PNG."""
        with PDFIUM:
            if not member.isdecimal() or len(member) > 9 or int(member) >= len(self._document):
                raise Refused(
                    "missing_file", f"{self._name} has {len(self._document)} pages, not {member!r}"
                )
            buffer = io.BytesIO()
            try:
                page = self._document[int(member)]
                scale = PDF_DPI / 72
                width, height = (side * scale for side in page.get_size())
                if width * height > MAX_PIXELS:
                    raise Refused(
                        "decompression_bomb",
                        f"{self._name}:{member} is {width:.0f} x {height:.0f} pixels at {PDF_DPI} DPI",
                    )
                page.render(scale=scale).to_pil().save(buffer, "PNG", compress_level=1)
                page.close()
            except (pdfium.PdfiumError, ValueError) as error:
                raise Refused("unreadable_file", f"{self._name}:{member}: {error}") from error
            return buffer.getvalue()

    def close(self) -> None:
        with PDFIUM:
            self._document.close()


class Pickle:
    """A pickle of records that hold arrays of pixels; nothing it names is run."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        size = path.stat().st_size
        if size > MAX_PICKLE:
            raise Refused("too_large", f"{self._name} has {size:,} bytes")
        try:
            self._records: Any = load_pickle(path, arrays=True, encodings=("ascii", "latin1"))
        except DataError as error:
            raise Refused("unreadable_file", f"{self._name}: {error.problem}") from error

    def read(self, member: str) -> bytes:
        """Return the array at `record:key path` as PNG; a dict's values are its records."""
        row, path = split_member(member)
        records = self._records
        if isinstance(records, dict):
            records = list(records.values())
        if not isinstance(records, list | tuple) or row >= len(records):
            raise Refused("missing_file", f"{self._name} has no record {row}")
        return picture_bytes(step_into(records[row], path), f"{self._name}:{member}")

    def close(self) -> None:
        self._records = None
