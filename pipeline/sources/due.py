"""DUE: DeepForm, Kleister Charity, TabFact, WTQ, PWC and the DocVQAs in one form -> Record.

Format: https://github.com/due-benchmark/baselines
The root is a dataset's folder, or the one around several. The text layers of a document are large
and serve all its questions: they are a split of their own.
"""

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message, Record
from pipeline.sources.base import (
    Bad,
    Item,
    Source,
    need,
    read_rows,
    refusal,
    relative,
    rest,
    safe,
)
from pipeline.sources.pdf import pages
from pipeline.sources.rows import as_text, records, texts

LABELS, CONTENTS = "document.jsonl", "documents_content.jsonl"
LICENSE = "that of the original release"


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return `train`, ... (around several datasets: `DeepForm_train`, ...), and `..._content`.

    The file with all splits that lies beside their folders is not read again.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "dev", "test"):
        for labels in sorted([*root.glob(f"{split}/{LABELS}"), *root.glob(f"*/{split}/{LABELS}")]):
            home = labels.parent.parent
            name = split if home == root else f"{home.name}_{split}"
            found[name] = (labels,)
            if (contents := labels.with_name(CONTENTS)).exists():
                found[f"{name}_content"] = (labels, contents)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a key of a document, or a document's text layers, in file order."""
    name, documents = relative(files[-1], root), read_rows(files[0])
    home = relative(files[0].parent.parent, root)
    place = partial(_pages, root, "" if home == "." else f"{home}/")
    if len(files) > 1:
        # Line i of both files is one document; names are only compared.
        rows = [
            {"document": d, "content": c} for d, c in zip_longest(documents, read_rows(files[1]))
        ]
        yield from records("due", split, name, rows, partial(_content, split, name, place), key="#")
        return
    for position, document in enumerate(documents):
        key: object = f"#{position}"
        try:
            if isinstance(document, Bad):
                raise document
            key = need(document, "name", str)
            images = place(need(document, "name", str))
            annotations = need(document, "annotations", list)
        except Bad as bad:
            yield refusal("due", split, name, key, bad)
            continue
        # A key without values asks for nothing: the document's records say which those are.
        empty = [a for a in annotations if isinstance(a, dict) and a.get("values") == []]
        extra = rest(document, "annotations") | ({"without_values": empty} if empty else {})
        asked = [{"key": f"{key}#{i}", "annotation": a} for i, a in enumerate(annotations)]
        asked = [row for row in asked if row["annotation"] not in empty]
        record = partial(_record, split, name, images, extra)
        yield from records("due", split, name, asked, record, key="key")


def _pages(root: Path, home: str, document: str) -> tuple[ImageRef, ...]:
    """Return the pages of a document: drawn ones where there are, else those of its PDF."""
    stem = safe(document).removesuffix(".pdf")
    drawn = sorted((root / f"{home}png/{stem}").glob("*.png"), key=_number)
    if drawn:
        return tuple(ImageRef(path=relative(file, root)) for file in drawn)
    return pages(root, f"{home}pdfs/{stem}.pdf")


def _number(file: Path) -> tuple[int, str]:
    return int(file.stem) if file.stem.isdecimal() else 0, file.name


def _record(
    split: str,
    file: str,
    images: tuple[ImageRef, ...],
    extra: dict[str, Any],
    position: int,
    row: Any,
) -> Record:
    annotation = need(row, "annotation", dict)
    key, values = need(annotation, "key", str), need(annotation, "values", list)
    shown = [_shown(value) for value in values]
    # One item has several spellings; several items are one answer, as the baselines join them.
    spellings = texts(values[0], "value_variants") if "value_variants" in values[0] else ()
    answers = (shown[0], *spellings) if len(shown) == 1 else (" | ".join(shown),)
    return Record(
        source="due",
        split=split,
        native_id=row["key"],
        task="ocr",
        images=images,
        messages=(
            Message(role="user", content=f"{IMAGE}\n" * len(images) + key),
            Message(role="assistant", content=answers[0]),
        ),
        answers=tuple(dict.fromkeys(answers)),
        license=LICENSE,
        extra=extra | {"annotation": annotation},
        file=file,
    )


def _shown(value: Any) -> str:
    """Return a value as text; a row of a table by its cells.

    >>> _shown({"children": [{"key": "task", "values": [{"value": "QA"}]}]})
    'task: QA'
    """
    if "value" in need({"value": value}, "value", dict):
        return as_text(value["value"])
    cells = [
        f"{need(cell, 'key', str)}: {', '.join(map(_shown, need(cell, 'values', list)))}"
        for cell in need(value, "children", list)
    ]
    return "; ".join(cells)


def _content(split: str, file: str, place: Any, position: int, row: Any) -> Record:
    for part in ("document", "content"):
        if isinstance(row[part], Bad):
            raise row[part]
    name = need(need(row, "document", dict), "name", str)
    content = need(row, "content", dict)
    if content.get("name", name) != name:
        raise Bad(
            "name_mismatch", f"line {position + 1} is {name!r} here, {content['name']!r} there"
        )
    images, text = place(name), _text(need(content, "contents", list))
    messages = [Message(role="user", content="\n".join([IMAGE] * len(images)))]
    if text is not None:
        messages.append(Message(role="assistant", content=text))
    return Record(
        source="due",
        split=split,
        native_id=name,
        task="ocr",
        images=images,
        messages=tuple(messages),
        answers=None if text is None else (text,),
        license=LICENSE,
        extra=content,
        file=file,
    )


def _text(contents: list[Any]) -> str | None:
    """Return the lines of the first text layer with tokens, whatever tool made it."""
    for layer in contents:
        form = need(layer, "common_format", dict)
        tokens = texts(form, "tokens")
        if not any(token.strip() for token in tokens):
            continue
        structures = need(form, "structures", dict) if "structures" in form else {}
        ranges = [[0, len(tokens)]]
        if "lines" in structures:
            ranges = need(need(structures, "lines", dict), "structure_value", list)
        return "\n".join(" ".join(tokens[slice(*_range(pair))]) for pair in ranges)
    return None


def _range(pair: Any) -> tuple[int, int]:
    """Return a half-open range of tokens."""
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise Bad("wrong_type", f"a range of tokens is {pair!r:.80}, expected [start, end]")
    return pair[0], pair[1]


DUE = Source(
    name="due",
    title="DUE benchmark",
    family="ocr",
    files=(
        "{train,dev,test}/document.jsonl",
        "{train,dev,test}/documents_content.jsonl",
        "png/<name>/<page>.png or pdfs/<name>.pdf",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/due-benchmark/baselines",
)
