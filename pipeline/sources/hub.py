"""Instruction sets released as Parquet with pictures inside -> Record.

Formats: https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data,
https://huggingface.co/datasets/lmms-lab/LLaVA-NeXT-Data,
https://huggingface.co/datasets/HuggingFaceM4/the_cauldron,
https://huggingface.co/datasets/HuggingFaceM4/Docmatix, https://huggingface.co/datasets/HuggingFaceM4/FineVision

The columns of LLaVA-NeXT-Data and the configurations of Docmatix are unverified. FineVision's ratings,
lists with one value a turn, stay in `extra`.
"""

from pathlib import Path
from typing import Any

from catalog.record import IMAGE, ImageRef, Message
from pipeline.sources.base import Bad, Source, need, rest
from pipeline.sources.dialog import Dialog, dialog_of
from pipeline.sources.each import Say, Splits, matching, reader
from pipeline.sources.parquet import columns_of, parquet_rows


def split_a_subset(column: str) -> Splits:
    """Make each subset's folder a split; files in `data/` or at the root are split by their name.

    `<subset>/train-00000-of-00002.parquet` and, in converted releases, `<subset>/train/0000.parquet`
    are the split `<subset>`; other parts of a subset are `<subset>/<part>`.
    """

    def splits(root: Path) -> dict[str, tuple[Path, ...]]:
        found: dict[str, tuple[Path, ...]] = {}
        for file in matching(root, ("*.parquet", "*/*.parquet", "*/*/*.parquet")):
            columns = columns_of(file)
            if columns and column not in columns:
                continue
            split = _split_of(file.relative_to(root).parts)
            found[split] = (*found.get(split, ()), file)
        return found

    return splits


def _split_of(parts: tuple[str, ...]) -> str:
    """
    >>> _split_of(("ai2d", "train-00000-of-00001.parquet")), _split_of(("data", "test-0.parquet"))
    ('ai2d', 'test')
    >>> _split_of(("vqa", "train", "0000.parquet")), _split_of(("vqa", "val", "0000.parquet"))
    ('vqa', 'vqa/val')
    """
    *folders, name = parts
    part = folders.pop() if len(folders) == 2 else name.removesuffix(".parquet").split("-")[0]
    subset = folders[0] if folders and folders[0] != "data" else ""
    if not subset or part.isdigit():
        return subset or part
    return subset if part == "train" else f"{subset}/{part}"


def _say_conversations(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row of LLaVA's turns; text-only rows have no picture."""
    return dialog_of(row)


def _say_texts(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row of question-answer pairs; all its pictures stand before the first question."""
    pairs = need(row, "texts", list)
    if not pairs:
        raise Bad("empty_conversation", "there is no turn")
    images = [] if row.get("images") is None else need(row, "images", list)
    if not all(isinstance(image, ImageRef) for image in images):
        raise Bad("wrong_type", "a picture is null, expected its bytes")
    messages = []
    for pair in pairs:
        messages.append(Message(role="user", content=need(pair, "user", str)))
        messages.append(Message(role="assistant", content=need(pair, "assistant", str)))
    first = Message(role="user", content=f"{IMAGE}\n" * len(images) + messages[0].content)
    extra = rest(row, "texts", "images")
    # `source` names the data set that a pair came from: said once where all agree.
    more = [rest(pair, "user", "assistant") for pair in pairs]
    if any(more):
        extra["texts"] = more[0] if all(each == more[0] for each in more) else more
    return Dialog(messages=(first, *messages[1:]), images=tuple(images), extra=extra)


def hub(
    name: str,
    title: str,
    column: str,
    say: Say,
    *,
    license: str,
    homepage: str,
    subsets: str = "<subset>/train-*.parquet",
    note: str = "",
) -> Source:
    """Return the source of a release in Parquet, each subset a split."""
    return Source(
        name=name,
        title=title,
        family="instruction",
        files=(f"{subsets} with `{column}`",),
        splits=split_a_subset(column),
        reader=reader(name, license, say, parquet_rows),
        license=license,
        homepage=homepage,
        note=note,
    )


LLAVA_NEXT = hub(
    "llava_next",
    "LLaVA-NeXT-Data",
    "conversations",
    _say_conversations,
    license="Apache-2.0",
    homepage="https://huggingface.co/datasets/lmms-lab/LLaVA-NeXT-Data",
    note="The columns are unverified",
    subsets="data/train-*.parquet",
)
LLAVA_ONEVISION = hub(
    "llava_onevision",
    "LLaVA-OneVision-Data",
    "conversations",
    _say_conversations,
    license="Apache-2.0",
    homepage="https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data",
)
THE_CAULDRON = hub(
    "the_cauldron",
    "The Cauldron",
    "texts",
    _say_texts,
    license="per source",
    homepage="https://huggingface.co/datasets/HuggingFaceM4/the_cauldron",
)
DOCMATIX = hub(
    "docmatix",
    "Docmatix",
    "texts",
    _say_texts,
    license="per source",
    homepage="https://huggingface.co/datasets/HuggingFaceM4/Docmatix",
    note="The subsets are unverified",
)
FINEVISION = hub(
    "finevision",
    "FineVision",
    "texts",
    _say_texts,
    license="per source",
    homepage="https://huggingface.co/datasets/HuggingFaceM4/FineVision",
)
