"""FigureQA and PlotQA: `qa_pairs` on synthetic plots, and the plots' annotations -> Record.

Formats: https://www.microsoft.com/en-us/research/project/figureqa-dataset and
https://github.com/NiteshMethani/PlotQA
The annotations of a plot are large and serve all its questions: they are a split of their own.
"""

import codecs
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record, Region
from pipeline.sources.base import Bad, Item, Source, need, read_list, read_rows, relative, rest
from pipeline.sources.regions import xywh
from pipeline.sources.rows import as_text, asked, records
from pipeline.sources.words import page, word

_NAME = re.compile(r"qa_pairs(?:_(?P<version>[vV]\d))?\.json")
ANNOTATIONS = "annotations"
FIGUREQA_TERMS, PLOTQA_TERMS = "Microsoft FigureQA terms", "CC BY 4.0"


def splits(versions: bool, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return each folder's questions (PlotQA: `train_V1`, `train_V2`), and its `..._annotations`."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in sorted([*root.glob("qa_pairs*.json"), *root.glob("*/qa_pairs*.json")]):
        match = _NAME.fullmatch(file.name)
        if not match or bool(match["version"]) != versions:
            continue
        # Test folders of FigureQA say that they lack annotations.
        folder = file.parent.name.removeprefix("no_annot_")
        found[f"{folder}_{match['version'].upper()}" if versions else folder] = (file,)
        if (annotations := file.with_name("annotations.json")).exists():
            found[f"{folder}_{ANNOTATIONS}"] = (annotations,)
    return found


def _rows(file: Path) -> Iterator[Any]:
    """Yield the list of a file, bare or under `qa_pairs`: PlotQA's page and files differ."""
    with file.open("rb") as stream:
        head = stream.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    return read_rows(file) if head[:1] == b"[" else read_list(file, "qa_pairs")


def read(source: str, root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, or a plot, in file order."""
    name = relative(files[0], root)
    kinds = {"figureqa": _figure, "plotqa": _plot}
    kind = partial(_annotation, source) if split.endswith(ANNOTATIONS) else kinds[source]
    record = partial(kind, split, name)
    return records(source, split, name, _rows(files[0]), record, key="#")


def _figure(split: str, file: str, position: int, row: Any) -> Record:
    question, template = need(row, "question_string", str), need(row, "question_id", int)
    colors = [need(row, f"color{i}_id", int) for i in (1, 2)]
    answer = None
    if "answer" in row:
        number = need(row, "answer", int)
        if number not in (0, 1):
            raise Bad("bad_answer", f"'answer' is {number}, expected 1 (yes) or 0 (no)")
        answer = "Yes" if number else "No"
    index = need(row, "image_index", int)
    return Record(
        source="figureqa",
        split=split,
        # A question is its template, asked of one or two colours of a figure.
        native_id="/".join(map(str, (index, template, *colors))),
        task="vqa",
        images=(_image(file, index),),
        messages=asked(question, answer),
        answers=None if answer is None else (answer,),
        license=FIGUREQA_TERMS,
        extra=rest(row, "question_string"),
        file=file,
    )


def _plot(split: str, file: str, position: int, row: Any) -> Record:
    key, question = need(row, "question_id", (int, str)), need(row, "question_string", str)
    answer = None
    if "answer" in row:
        answer = as_text(need(row, "answer", (str, int, float, list)))
    taken = ["question_string", *(["answer"] if isinstance(row.get("answer"), str) else [])]
    index = need(row, "image_index", int)
    return Record(
        source="plotqa",
        split=split,
        native_id=str(key),
        task="vqa",
        images=(_image(file, index),),
        messages=asked(question, answer),
        answers=None if answer is None else (answer,),
        regions=tuple(_boxes(answer or "", row.get("answer_bbox"))),
        license=PLOTQA_TERMS,
        extra=rest(row, *taken, "answer_bbox"),
        file=file,
    )


def _boxes(label: str, given: Any) -> Iterator[Region]:
    """Yield the region of each box: the field holds one, a list of them, or nothing."""
    for box in given if isinstance(given, list) else [given] if given else []:
        sides = [need(box, key, (int, float)) for key in ("x", "y", "w", "h")]
        yield word(label, box=xywh(sides), extra=rest(box, "x", "y", "w", "h"))


def _annotation(source: str, split: str, file: str, position: int, row: Any) -> Record:
    index = need(row, "image_index", int)
    return page(
        source=source,
        split=split,
        native_id=str(index),
        image=_image(file, index),
        text=None,
        regions=(),
        license=FIGUREQA_TERMS if source == "figureqa" else PLOTQA_TERMS,
        extra=row,
        file=file,
    )


def _image(file: str, index: int) -> ImageRef:
    """
    >>> _image("train1/qa_pairs.json", 7).path
    'train1/png/7.png'
    """
    folder, slash, _ = file.rpartition("/")
    return ImageRef(path=f"{folder}{slash}png/{index}.png")


FIGUREQA = Source(
    name="figureqa",
    title="FigureQA",
    family="ocr",
    files=(
        "{train1,validation1,validation2,no_annot_test1,no_annot_test2}/qa_pairs.json",
        "{train1,validation1,validation2}/annotations.json",
        "{train1,...}/png/*.png",
    ),
    splits=partial(splits, False),
    reader=partial(read, "figureqa"),
    license=FIGUREQA_TERMS,
    homepage="https://www.microsoft.com/en-us/research/project/figureqa-dataset",
)
PLOTQA = Source(
    name="plotqa",
    title="PlotQA",
    family="ocr",
    files=(
        "{train,validation,test}/qa_pairs_{V1,V2}.json",
        "{train,validation,test}/annotations.json",
        "{train,validation,test}/png/*.png",
    ),
    splits=partial(splits, True),
    reader=partial(read, "plotqa"),
    license=PLOTQA_TERMS,
    homepage="https://github.com/NiteshMethani/PlotQA",
)
