"""ICDAR 2015 and RCTW-17: scene text as lines of eight coordinates and a text -> Record.

Formats: https://rrc.cvc.uab.es/?ch=4 and https://rctw.vlrlab.net/dataset
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import Bad, Item, Source, refusal, relative
from pipeline.sources.delimited import lines_of
from pipeline.sources.rows import read_text, records
from pipeline.sources.words import page, transcript, word

UNREADABLE = "###"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What tells one release from the other."""

    source: str
    license: str
    prefix: str
    """How the name of a picture's label file begins."""
    folders: Mapping[str, tuple[str, str]]
    """Split -> folders of labels and of pictures."""


ICDAR2015_FORM = Form(
    source="icdar2015",
    license="RRC portal, research only",
    prefix="gt_img_",
    folders={
        "train": ("ch4_training_localization_transcription_gt", "ch4_training_images"),
        "test": ("Challenge4_Test_Task1_GT", "ch4_test_images"),
    },
)
RCTW17_FORM = Form(
    source="rctw17",
    license="research only",
    prefix="image_",
    folders={"train": ("train_gts", "train_images")},
)
WORDS = {
    "train_words": "ch4_training_word_images_gt",
    "test_words": "ch4_test_word_images_gt",
    "words": "",
}
"""Split -> folder of `gt.txt`, where each line is a cropped word."""


def splits(form: Form, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the folder of its label files; files at the root are `train`."""
    folders = {split: root / labels for split, (labels, _) in form.folders.items()}
    found: dict[str, tuple[Path, ...]] = {"train": tuple(_labels(form, root))}
    found |= {split: (folder,) for split, folder in folders.items() if _labels(form, folder)}
    return {split: files for split, files in found.items() if files}


def _labels(form: Form, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{form.prefix}*.txt"))


def icdar2015_splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the pictures' splits, and those of cropped words."""
    words = {split: root / folder / "gt.txt" for split, folder in WORDS.items()}
    found = {split: (file,) for split, file in words.items() if file.exists()}
    return splits(ICDAR2015_FORM, root) | found


def read(form: Form, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, or a cropped word, in file order."""
    if split in WORDS:
        lines, name = lines_of(read_text(files[0])), relative(files[0], root)
        yield from records(form.source, split, name, lines, partial(_word, split, name), key="#")
        return
    for place in files:
        for file in _labels(form, place) if place.is_dir() else [place]:
            name = relative(file, root)
            try:
                yield _page(form, split, file, name)
            except Bad as bad:
                yield refusal(form.source, split, name, file.stem, bad)


def _page(form: Form, split: str, file: Path, name: str) -> Record:
    line = _quoted if form is RCTW17_FORM else _bare
    regions = [line(text) for text in lines_of(read_text(file)) if text.strip()]
    stem = file.stem.removeprefix("gt_")
    return page(
        source=form.source,
        split=split,
        native_id=stem,
        image=ImageRef(path=f"{form.folders[split][1]}/{stem}.jpg"),
        text=transcript(regions),
        regions=regions,
        license=form.license,
        extra={},
        file=name,
    )


def _bare(line: str) -> Region:
    """Read a line of ICDAR 2015: the text may hold commas.

    >>> _bare("1,2,9,2,9,8,1,8,1,250").label
    '1,250'
    """
    cells = line.split(",", 8)
    text = cells[8] if len(cells) == 9 else ""
    return word(text, polygon=_corners(line, cells[:8]), ignore=text == UNREADABLE, extra={})


def _quoted(line: str) -> Region:
    """Read a line of RCTW-17: a flag, and the text in quotes.

    >>> _quoted('1,2,9,2,9,8,1,8,0,"a,"b""').label
    'a,"b"'
    """
    cells = line.split(",", 9)
    if len(cells) < 10:
        raise Bad("broken_line", f"{line!r:.80}: expected 8 coordinates, a flag and a text")
    text = _unquoted(cells[9])
    polygon = _corners(line, cells[:8])
    return word(text, polygon=polygon, ignore=text == UNREADABLE, extra={"difficult": cells[8]})


def _corners(line: str, cells: list[str]) -> tuple[float, ...]:
    try:
        corners = tuple(float(cell) for cell in cells)
    except ValueError as error:
        raise Bad("broken_line", f"{line!r:.80}: a coordinate is no number") from error
    if len(corners) != 8:
        raise Bad("broken_line", f"{line!r:.80}: {len(corners)} coordinates, expected 8")
    return corners


def _unquoted(text: str) -> str:
    """Return a text without its outer pair of quotes."""
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _word(split: str, file: str, position: int, line: str) -> Record:
    image, comma, quoted = line.partition(",")
    if not comma or not image.strip() or "/" in image or "\0" in image:
        raise Bad("broken_line", f"{line!r:.80}: expected a picture's name and its text")
    text = _unquoted(quoted).replace('\\"', '"')
    folder = file.rpartition("/")[0].removesuffix("_gt")
    path = f"{folder}/{image.strip()}" if folder else image.strip()
    readable = text != UNREADABLE and bool(text.strip())
    return page(
        source="icdar2015",
        split=split,
        native_id=image.strip(),
        image=ImageRef(path=path),
        text=text if readable else None,
        regions=(),
        license=ICDAR2015_FORM.license,
        extra={} if readable else {"text": text},
        file=file,
    )


ICDAR2015 = Source(
    name="icdar2015",
    title="ICDAR 2015 incidental scene text",
    family="ocr",
    files=(
        "ch4_training_localization_transcription_gt/gt_img_*.txt",
        "ch4_training_images/img_*.jpg",
        "ch4_training_word_images_gt/gt.txt",
        "ch4_training_word_images/word_*.png",
    ),
    splits=icdar2015_splits,
    reader=partial(read, ICDAR2015_FORM),
    license=ICDAR2015_FORM.license,
    homepage="https://rrc.cvc.uab.es/?ch=4",
)
RCTW17 = Source(
    name="rctw17",
    title="RCTW-17",
    family="ocr",
    files=("train_gts/image_*.txt", "train_images/image_*.jpg"),
    splits=partial(splits, RCTW17_FORM),
    reader=partial(read, RCTW17_FORM),
    license=RCTW17_FORM.license,
    homepage="https://rctw.vlrlab.net/dataset",
    official={"train": 8_034},
)
