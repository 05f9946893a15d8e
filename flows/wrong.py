"""The page of wrong answers: of each benchmark the worst answered questions, with what was true."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog import Catalog
from flows.cards import Card, wrong_cards
from flows.pages import environment, write_page
from model.items import read_items


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What went wrong on one source's split."""

    source: str
    split: str
    title: str
    """Of the metric."""
    questions: int
    wrong: int
    """Questions with less than full marks."""
    blind: int | None
    """Of these, how many the blanked picture answered better; None where that was not asked."""
    cards: tuple[Card, ...]


def wrong_page(
    path: Path,
    *,
    catalog: Catalog,
    title: str,
    judged: Iterable[tuple[Path, Sequence[str]]],
    each: int = 24,
) -> Path:
    """Write the page of the worst answers; return its path.

    Args:
        path: the page.
        catalog: for its pictures.
        title: of the page.
        judged: folders of evaluations, `RUN/eval/SPLIT`, and the sources to show of each.
        each: at most so many questions of each source.
    """
    failed = [
        _failed(catalog, folder, source, each) for folder, sources in judged for source in sources
    ]
    text = environment().get_template("wrong.html.j2").render(title=title, failed=failed)
    return write_page(path, text)


def _failed(catalog: Catalog, folder: Path, source: str, each: int) -> Failed:
    scores = json.loads((folder / "scores.json").read_bytes())
    result = scores["sources"][source]
    items = read_items(folder / "items" / f"{source}.parquet")
    wrong = [item for item in items if item["score"] is not None and item["score"] < 1.0 - 1e-9]
    asked = [item for item in wrong if item["blind_score"] is not None]
    return Failed(
        source=source,
        split=scores["split"],
        title=result["title"],
        questions=result["scored"],
        wrong=len(wrong),
        blind=sum(item["blind_score"] > item["score"] for item in asked) if asked else None,
        cards=tuple(wrong_cards(catalog, wrong, each)),
    )
