"""CTW1500 and Total-Text: curved scene text, a label file a picture -> Record.

Formats: https://github.com/Yuliang-Liu/Curve-Text-Detector and https://github.com/cs-chan/Total-Text-Dataset.
CTW1500 is XML to train and lines `x1,y1,...,####text` to test. Of Total-Text the text files are read, not
those of MATLAB. The folders of both are unverified.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from catalog.record import ImageRef, Record
from pipeline.sources.base import Bad, Item, Source, refusal, relative, safe
from pipeline.sources.delimited import lines_of
from pipeline.sources.rows import read_text
from pipeline.sources.safe_xml import read_xml
from pipeline.sources.words import outline, page, transcript, word

TEXT = ",####"
"""Stands between the outline and the text of a line; no mark of what cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What tells one release from the other."""

    source: str
    license: str
    folders: Mapping[str, tuple[tuple[str, str], ...]]
    """Split -> folders (labels, pictures) as releases and re-packings have them."""
    labels: tuple[str, ...]
    picture: Callable[[str], str]
    """Stem of a label file -> stem of its picture."""
    unreadable: tuple[str, ...]


CTW1500_FORM = Form(
    source="ctw1500",
    license="research only [unverified]",
    folders={
        "train": (("ctw1500_train_labels", "train_images"),),
        "test": (("gt_ctw1500", "test_images"),),
    },
    labels=("*.xml", "*.txt"),
    # The labels of 1001.jpg stand in 0001001.txt.
    picture=lambda stem: stem[-4:],
    unreadable=("###",),
)
TOTALTEXT_FORM = Form(
    source="totaltext",
    license="BSD-3-Clause [unverified]",
    folders={
        split.lower(): (
            (f"Groundtruth/Polygon/{split}", f"Images/{split}"),
            (f"txt_format/{split}", f"Images/{split}"),
        )
        for split in ("Train", "Test")
    },
    labels=("poly_gt_img*.txt",),
    picture=lambda stem: stem.removeprefix("poly_gt_"),
    unreadable=("#", "###"),
)


def splits(form: Form, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> the first folder that holds label files."""
    found = {
        split: tuple(root / labels for labels, _ in pairs if _labels(form, root / labels))[:1]
        for split, pairs in form.folders.items()
    }
    return {split: folders for split, folders in found.items() if folders}


def _labels(form: Form, folder: Path) -> list[Path]:
    return sorted(file for pattern in form.labels for file in folder.glob(pattern))


def read(form: Form, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a picture, in the order of the label files' names."""
    [folder] = files
    pictures = dict(form.folders[split])[relative(folder, root)]
    for file in _labels(form, folder):
        name = relative(file, root)
        try:
            yield _page(form, root, split, file, name, pictures)
        except Bad as bad:
            yield refusal(form.source, split, name, file.stem, bad)


def _page(form: Form, root: Path, split: str, file: Path, name: str, folder: str) -> Record:
    picture = f"{form.picture(file.stem)}.jpg"
    if file.suffix == ".xml":
        named, words = _elements(file)
        picture = named or picture
    elif form is CTW1500_FORM:
        words = [_line(line) for line in lines_of(read_text(file)) if line.strip()]
    else:
        words = [_entry(entry) for entry in _entries(read_text(file))]
    regions = [
        word(text, polygon=polygon, ignore=text in form.unreadable, extra=extra)
        for text, polygon, extra in words
    ]
    # A few pictures of Total-Text end in .JPG.
    paths = [safe(f"{folder}/{picture}"), f"{folder}/{Path(picture).stem}.JPG"]
    return page(
        source=form.source,
        split=split,
        native_id=Path(picture).stem,
        image=ImageRef(path=next((path for path in paths if (root / path).exists()), paths[0])),
        text=transcript(regions),
        regions=regions,
        license=form.license,
        extra={},
        file=name,
    )


Word = tuple[str, tuple[float, ...], Mapping[str, str]]
"""A text, its outline, and what else is said of it."""


def _elements(file: Path) -> tuple[str | None, list[Word]]:
    """Return the picture that an XML file of CTW1500 names, and its words."""
    image = read_xml(file).find("image")
    if image is None:
        raise Bad("no_image_entry", f"{file.name} has no <image>")
    return image.get("file"), [
        (box.findtext("label") or "", _outline(box.findtext("segs") or ""), dict(box.attrib))
        for box in image.iter("box")
    ]


def _line(line: str) -> Word:
    """
    >>> _line("1,2,9,2,9,8,####a, b")
    ('a, b', (1.0, 2.0, 9.0, 2.0, 9.0, 8.0), {})
    """
    points, mark, text = line.partition(TEXT)
    if not mark:
        raise Bad("broken_line", f"{line!r:.80}: expected coordinates, then '####' and a text")
    return text, _outline(points), {}


def _outline(points: str) -> tuple[float, ...]:
    try:
        return outline([float(cell) for cell in points.split(",")])
    except ValueError as error:
        if isinstance(error, Bad):
            raise
        raise Bad("bad_polygon", f"{points!r:.80}: a coordinate is no number") from error


def _entries(text: str) -> list[str]:
    """Return the entries of a file of Total-Text: one of many points goes on in the next line."""
    return [" ".join(entry.split("\n")) for entry in re.split(r"\n(?=x:)", text.strip()) if entry]


_ENTRY = re.compile(
    r"x: \[\[(?P<xs>[^\]]*)\]\], *y: \[\[(?P<ys>[^\]]*)\]\]"
    r"(?:, *ornt: (?P<ornt>\[[^\]]*\]))?, *transcriptions: (?P<texts>\[.*\])"
)


def _entry(entry: str) -> Word:
    """
    >>> _entry("x: [[1 9 9]], y: [[2 2 8]], ornt: [u'c'], transcriptions: [u'CAT']")
    ('CAT', (1.0, 2.0, 9.0, 2.0, 9.0, 8.0), {'ornt': 'c'})
    """
    match = _ENTRY.fullmatch(entry.strip())
    if not match:
        raise Bad("broken_line", f"{entry!r:.80}: expected x, y, ornt and transcriptions")
    xs, ys = match["xs"].split(), match["ys"].split()
    if len(xs) != len(ys):
        raise Bad("unequal_lists", f"{len(xs)} x and {len(ys)} y make no outline")
    polygon = _outline(",".join(cell for point in zip(xs, ys, strict=True) for cell in point))
    extra = {"ornt": _texts(match["ornt"])} if match["ornt"] else {}
    return _texts(match["texts"]), polygon, extra


def _texts(listed: str) -> str:
    """Return the texts of a list as Python writes it, with blanks between them."""
    try:
        texts = ast.literal_eval(listed)
        return " ".join(texts)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Bad("broken_line", f"{listed!r:.80} is no list of texts") from error


CTW1500 = Source(
    name="ctw1500",
    title="SCUT-CTW1500",
    family="ocr",
    files=(
        "ctw1500_train_labels/*.xml",
        "gt_ctw1500/*.txt",
        "train_images/*.jpg",
        "test_images/*.jpg",
    ),
    splits=partial(splits, CTW1500_FORM),
    reader=partial(read, CTW1500_FORM),
    license=CTW1500_FORM.license,
    homepage="https://github.com/Yuliang-Liu/Curve-Text-Detector",
    official={"train": 1_000, "test": 500},
    unverified=("train", "test"),
    note="the folders and the licence are unverified",
)
TOTALTEXT = Source(
    name="totaltext",
    title="Total-Text",
    family="ocr",
    files=(
        "Groundtruth/Polygon/{Train,Test}/poly_gt_img*.txt",
        "or txt_format/{Train,Test}/poly_gt_img*.txt",
        "Images/{Train,Test}/img*.jpg",
    ),
    splits=partial(splits, TOTALTEXT_FORM),
    reader=partial(read, TOTALTEXT_FORM),
    license=TOTALTEXT_FORM.license,
    homepage="https://github.com/cs-chan/Total-Text-Dataset",
    official={"train": 1_255, "test": 300},
    unverified=("train", "test"),
    note="the .mat files are not read; the folders and the licence are unverified",
)
