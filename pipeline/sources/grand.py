"""GranD: dense annotations of SA-1B pictures, one JSON file a picture -> Record.

Format: https://github.com/mbzuai-oryx/groundingLMM/blob/main/docs/GranD.md. The file's one key is
the picture's name. A caption with `details` becomes one whose phrases have boxes; plain captions
and the phrases of `relationships` are turns of their own. Not verified, and hence read however
they come: `details` with `ids` or `id`, a number or a list, and `tokens_positive` with one span or
several; `dense_caption` as text or with `details`. All fields stay in `extra`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.record import IMAGE, ImageRef, Message, Record, Region
from pipeline.sources.base import Bad, Item, Source, need, read_json, refusal, relative, rest, safe
from pipeline.sources.regions import listing, segmentation, xyxy
from pipeline.sources.spans import GROUND, Span, marked, outermost

LISTS = ("objects", "floating_objects", "floating_attributes")
LICENSE = "SA-1B terms of use, annotations Apache-2.0 [unverified]"
SHORT = "Describe the picture."
DENSE = "Describe the picture in detail, with the boxes of what you name."
PHRASES = "Give the boxes of what stands out in the picture."
NAMES = "Name objects in the picture, with their boxes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question, its answer, and the spans that regions have in it."""

    asked: str
    answer: str
    spans: Mapping[int, Span]


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split -> the folders that hold `sa_*.json`."""
    folders = sorted({file.parent for file in root.rglob("sa_*.json")})
    return {"train": tuple(folders)} if folders else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a file, folder by folder, in order of their names."""
    for folder in files:
        for file in sorted(folder.glob("sa_*.json")):
            place = relative(file, root)
            try:
                yield _record(root, split, place, read_json(file))
            except Bad as bad:
                yield refusal("grand", split, place, file.stem, bad)
            except DataError as error:
                # One of millions of files: the others are none the worse for it.
                yield refusal("grand", split, place, file.stem, Bad("broken_json", str(error)))


def _record(root: Path, split: str, file: str, content: Any) -> Record:
    if not isinstance(content, dict) or len(content) != 1:
        raise Bad("wrong_type", "not an object whose one key is the picture's name")
    [(name, row)] = content.items()
    regions, places = _regions(need(content, name, dict))
    turns = list(_turns(row, regions, places))
    # A region has one span: in the first turn that names it.
    spans = {at: span for turn in reversed(turns) for at, span in turn.spans.items()}
    messages = []
    for number, turn in enumerate(turns):
        asked = turn.asked if number else f"{IMAGE}\n{turn.asked}"
        messages.append(Message(role="user", content=asked))
        messages.append(Message(role="assistant", content=turn.answer))
    captions = [caption for caption in _captions(row) if caption.strip()]
    return Record(
        source="grand",
        split=split,
        native_id=Path(safe(name)).stem,
        task="caption",
        images=(ImageRef(path=_picture(root, file, name)),),
        messages=tuple(messages) or (Message(role="user", content=f"{IMAGE}\n{SHORT}"),),
        answers=tuple(captions) or None,
        regions=tuple(
            Region(label=r.label, box=r.box, rle=r.rle, span=spans.get(at), extra=r.extra)
            for at, r in enumerate(regions)
        ),
        license=LICENSE,
        extra=rest(row, *LISTS),
        file=file,
    )


def _picture(root: Path, file: str, name: str) -> str:
    beside = f"{Path(file).parent.as_posix()}/{name}".removeprefix("./")
    folder = Path(file).parent.name
    places = (beside, name, f"images/{name}", f"images/{folder}/{name}")
    return next((place for place in places if (root / place).is_file()), f"images/{name}")


def _regions(row: dict[str, Any]) -> tuple[list[Region], dict[object, int]]:
    """Return all regions, and the place of each by its id."""
    regions: list[Region] = []
    places: dict[object, int] = {}
    for kind in LISTS:
        for entry in need(row, kind, list) if kind in row else []:
            box = xyxy(need(entry, "bbox", list))
            known = entry.get("id")
            if isinstance(known, int | str):
                if known in places:
                    raise Bad("duplicate_id", f"two objects of id {known!r}")
                places[known] = len(regions)
            regions.append(
                Region(
                    label=_label(entry),
                    box=box,
                    **segmentation(entry.get("segmentation")),
                    extra=rest(entry, "bbox", "segmentation") | {"kind": kind},
                )
            )
    return regions, places


def _label(entry: dict[str, Any]) -> str:
    """Return an object's first label, else its first attribute without the junk before it.

    >>> _label({"labels": ["coffee_mug"]}), _label({"labels": [], "attributes": "istant: a mug"})
    ('coffee mug', 'a mug')
    """
    for key in ("labels", "attributes"):
        value = entry.get(key)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str) and first.strip():
            head, junk, tail = first.partition(":")
            words = tail if junk and "assistant".endswith(head.strip().lower()) else first
            return words.replace("_", " ").strip()
    return ""


def _captions(row: dict[str, Any]) -> Iterator[str]:
    for key in ("short_captions", "captions", "dense_caption"):
        value = row.get(key)
        for entry in value if isinstance(value, list) else [value]:
            text = entry.get("caption") if isinstance(entry, dict) else entry
            if isinstance(text, str):
                yield text


def _turns(row: dict[str, Any], regions: list[Region], places: dict[object, int]) -> Iterator[Turn]:
    asked: dict[str, str] = {"short_captions": GROUND, "captions": SHORT, "dense_caption": DENSE}
    for key, question in asked.items():
        value = row.get(key)
        first = value[0] if isinstance(value, list) and value else value
        entry: dict[str, Any] = first if isinstance(first, dict) else {"caption": first}
        caption = entry.get("caption")
        if isinstance(caption, str) and caption.strip():
            yield _grounded(question, caption, entry.get("details"), places)
    grounding = row.get("relationships")
    pairs = grounding.get("grounding") if isinstance(grounding, dict) else None
    phrases = {
        entry["phrase"]: _found(entry, places)
        for entry in (pairs if isinstance(pairs, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("phrase"), str)
    }
    if phrases := {phrase: found for phrase, found in phrases.items() if found}:
        yield Turn(asked=PHRASES, answer=listing(phrases), spans={})
    elif not row.get("short_captions") and (named := [r for r in regions if r.label]):
        groups: dict[str, list[int]] = {}
        for region in named:
            groups.setdefault(region.label, []).append(regions.index(region))
        yield Turn(asked=NAMES, answer=listing(groups), spans={})


def _found(entry: dict[str, Any], places: dict[object, int]) -> list[int]:
    """Return the regions an entry points to.

    Raises:
        Bad: it points to an object that is not there.
    """
    value: Any = next((entry[key] for key in ("ids", "id", "object_ids") if key in entry), [])
    found = []
    for known in value if isinstance(value, list) else [value]:
        if not isinstance(known, int | str) or known not in places:
            raise Bad("no_object", f"{entry.get('phrase')!r:.60} is object {known!r:.20}")
        found.append(places[known])
    return found


def _grounded(question: str, caption: str, details: Any, places: dict[object, int]) -> Turn:
    spans: dict[Span, list[int]] = {}
    for detail in details if isinstance(details, list) else []:
        found = _found(detail, places) if isinstance(detail, dict) else []
        for span in _spans(detail, caption):
            spans.setdefault(span, []).extend(found)
    drawn = [span for span in outermost(spans) if spans[span]]
    text = marked([(*span, list(dict.fromkeys(spans[span]))) for span in drawn], caption)
    moved = {at: text.moved(span) for span in drawn for at in spans[span]}
    return Turn(asked=question, answer=text.text, spans=moved)


def _spans(detail: Any, caption: str) -> list[Span]:
    """Return the spans of a detail: as given, or where its phrase stands if only once."""
    given = detail.get("tokens_positive") if isinstance(detail, dict) else None
    pairs = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    spans = []
    for pair in pairs:
        if pair is None:
            phrase = detail.get("phrase") if isinstance(detail, dict) else None
            if isinstance(phrase, str) and phrase and caption.count(phrase) == 1:
                start = caption.index(phrase)
                spans.append((start, start + len(phrase)))
            continue
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(at, int) for at in pair)
        ):
            raise Bad("bad_span", f"'tokens_positive' is {given!r:.60}, expected [start, end]")
        if not 0 <= pair[0] < pair[1] <= len(caption):
            raise Bad("bad_span", f"{pair} in a caption of {len(caption)} characters")
        spans.append((pair[0], pair[1]))
    return spans


GRAND = Source(
    name="grand",
    title="GranD",
    family="region",
    files=("**/sa_*.json", "images/sa_*.jpg"),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/mbzuai-oryx/groundingLMM",
    note="the keys of dense captions and details are unverified and read however they come",
)
