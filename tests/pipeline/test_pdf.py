"""PDFs as pages: what is drawn stands where the regions say, on straight and turned pages."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog.record import Record
from pipeline.checks import read_picture
from pipeline.sources.pdf import PDF, pages

ROOT = Path(__file__).parent.parent / "data" / "pdf"


@pytest.mark.parametrize("number", [0, 2, 3])
def test_regions_cover_what_is_drawn(number: int) -> None:
    records = [item for item in PDF.read(ROOT, "train") if isinstance(item, Record)]
    record = records[number]
    image = Image.open(io.BytesIO(read_picture(ROOT, record.images[0]))).convert("L")
    dark = np.asarray(image) < 128
    assert dark.sum() > 100
    covered = np.zeros_like(dark)
    for region in record.regions:
        assert region.box is not None
        x0, y0, x1, y1 = region.box
        inside = np.s_[int(y0) - 1 : int(y1) + 2, int(x0) - 1 : int(x1) + 2]
        assert dark[inside].any()
        covered[inside] = True
    assert not dark[~covered].any()


def test_a_page_without_a_text_layer_has_no_answer() -> None:
    records = [item for item in PDF.read(ROOT, "train") if isinstance(item, Record)]
    assert records[1].answers is None
    assert [message.role for message in records[1].messages] == ["user"]


def test_pages_of_a_missing_pdf_are_its_first() -> None:
    assert [ref.member for ref in pages(ROOT, "0000/0000042.pdf")] == ["0", "1", "2", "3"]
    assert [ref.member for ref in pages(ROOT, "lost.pdf")] == ["0"]
