"""DeepForm: values to find in receipts of political advertisements -> Record.

Format: https://github.com/project-deepform/deepform
The columns differ by year. The manifests have no text layer; the pages are those of the PDFs.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, Message, Record
from pipeline.sources.base import Item, Source, need, relative, rest
from pipeline.sources.delimited import tsv_rows
from pipeline.sources.files import csv_rows
from pipeline.sources.pairs import written
from pipeline.sources.pdf import pages
from pipeline.sources.rows import records

FIELDS = ("contract_num", "advertiser", "gross_amount", "flight_from", "flight_to")
_NAME = re.compile(r".*(?P<year>20\d\d).*manifest.*\.(?:tsv|csv)")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return year -> its manifest."""
    files = sorted([*root.glob("*manifest*.?sv"), *root.glob("data/*manifest*.?sv")])
    return {match["year"]: (file,) for file in files if (match := _NAME.fullmatch(file.name))}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a receipt, in file order."""
    rows = tsv_rows(files[0]) if files[0].suffix == ".tsv" else csv_rows(files[0])
    name = relative(files[0], root)
    return records("deepform", split, name, rows, partial(_record, root, split, name), key="#")


def _record(root: Path, split: str, file: str, position: int, row: Any) -> Record:
    key = need(row, "file_id" if "file_id" in row else "id", str)
    asked = [field for field in FIELDS if field in row]
    # Titles and values begin or end with blanks in real rows: `extra` keeps them.
    found = [(field, row[field].strip()) for field in asked if row[field].strip()]
    answer, images = written(found), pages(root, f"pdfs/{key}.pdf")
    messages = [Message(role="user", content=f"{IMAGE}\n" * len(images) + "\n".join(asked))]
    if answer is not None:
        messages.append(Message(role="assistant", content=answer))
    return Record(
        source="deepform",
        split=split,
        native_id=key,
        task="ocr",
        images=images,
        messages=tuple(messages),
        answers=(answer,) if answer else (),
        license="MIT",
        extra=rest(row),
        file=file,
    )


DEEPFORM = Source(
    name="deepform",
    title="DeepForm",
    family="ocr",
    files=("{2012,2014}_manifest.tsv", "2020_manifest.csv", "pdfs/*.pdf"),
    splits=splits,
    reader=read,
    license="MIT",
    homepage="https://github.com/project-deepform/deepform",
)
