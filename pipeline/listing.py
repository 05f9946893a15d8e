"""All sources as Markdown tables, one a family: what README shows."""

import re
from collections.abc import Iterator

from pipeline.sources import SOURCES
from pipeline.sources.base import Family, Source

FAMILIES: dict[Family, str] = {
    "vqa": "Visual question answering",
    "reasoning": "Mathematics and reasoning",
    "caption": "Captions",
    "ocr": "Text in pictures, documents, charts",
    "region": "Regions and grounding",
    "instruction": "Instructions and documents with pictures",
    "text": "Text only",
}


def sources_markdown(sources: tuple[Source, ...] = SOURCES) -> str:
    """Return the tables, families in their order and sources as `SOURCES` lists them."""
    return "\n".join(_lines(sources))


def _lines(sources: tuple[Source, ...]) -> Iterator[str]:
    for family, title in FAMILIES.items():
        members = [source for source in sources if source.family == family]
        if members:
            yield f"\n**{title}** ({len(members)})\n"
            yield "| source | data set | files | licence | official records |"
            yield "| --- | --- | --- | --- | --- |"
            yield from map(_row, members)


def _row(source: Source) -> str:
    sizes = ", ".join(source.sizes)
    note = f". *{_plain(source.note)}*" if source.note else ""
    cells = (
        f"`{source.name}`",
        f"[{_plain(source.title)}]({source.homepage})",
        _plain("; ".join(source.files)) + note,
        _plain(source.license),
        sizes or "-",
    )
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    r"""Return a text that Markdown shows as it is.

    >>> _plain("<name>|*.json")
    '\\<name>\\|\\*.json'
    """
    return re.sub(r"([<|*])", r"\\\1", text)
