"""Where a reader's records stand, and the records most readers make: a question, and a caption."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from catalog.record import IMAGE, ImageRef, Message, Record, Refusal, Region
from pipeline.sources.base import Bad, Item, need, refusal, safe
from pipeline.sources.rows import lettered

Keyed = tuple[object, Any]
"""A row of an official file behind the key that a refusal names it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The official file that records are read from."""

    source: str
    split: str
    file: str
    """Relative to the root."""
    license: str

    def refuse(self, key: object, bad: Bad) -> Refusal:
        """Return the refusal of the row of a key."""
        name = str(key).encode(errors="backslashreplace").decode()
        return refusal(self.source, self.split, self.file, name, bad)

    def items(
        self, rows: Iterable[Keyed], record: Callable[["Origin", str, Any], Record]
    ) -> Iterator[Item]:
        """Yield `record(self, key, row)` for each row; where it cannot be read, the refusal."""
        for key, row in rows:
            try:
                if isinstance(row, Bad):
                    raise row
                yield storable(record(self, str(key), row))
            except Bad as bad:
                yield self.refuse(key, bad)

    def question(
        self,
        native_id: str,
        question: str,
        *,
        images: Sequence[str | ImageRef],
        target: str | None = None,
        answers: Sequence[str] | None = None,
        choices: Sequence[str] = (),
        shown: Sequence[str] | None = None,
        answer_index: int | None = None,
        regions: Sequence[Region] = (),
        extra: Mapping[str, Any],
    ) -> Record:
        """Return the record of a question on pictures.

        Choices follow the question, each behind a letter, and the answer repeats the right one
        with its letter. Pictures that have no mark in the question stand in front of it. What is
        learnt has no blanks around it; `answers` have them as the release does.

        Args:
            target: the answer to learn; None where the release hides it, or where choices say it.
            answers: all references; by default the right choice, or the target.
            shown: how the choices stand in the question; by default their own texts, () for not.
        """
        shown = choices if shown is None else shown
        if answer_index is not None:
            right = choices[answer_index]
            target = f"{letter(answer_index)}. {right}" if target is None else target
            answers = (right,) if answers is None else answers
        elif answers is None and target is not None:
            answers = (target,)
        if shown:
            question = lettered(question, shown)
        return Record(
            source=self.source,
            split=self.split,
            native_id=native_id,
            task="vqa",
            images=pictures(images),
            messages=turns(marked(question, len(images)), target and target.strip()),
            answers=None if answers is None else tuple(answers),
            choices=tuple(choices),
            answer_index=answer_index,
            regions=tuple(regions),
            license=self.license,
            extra=extra,
            file=self.file,
        )

    def caption(
        self,
        native_id: str,
        caption: str | None,
        *,
        images: Sequence[str | ImageRef],
        references: Sequence[str] | None = None,
        license: str | None = None,
        extra: Mapping[str, Any],
    ) -> Record:
        """Return the record of a picture's caption; None: the release hides it.

        What is learnt has no blanks around it; `references` have them as the release does.

        Args:
            references: all captions of the picture; by default this one.
        """
        if references is None and caption is not None:
            references = (caption,)
        return Record(
            source=self.source,
            split=self.split,
            native_id=native_id,
            task="caption",
            images=pictures(images),
            messages=turns(IMAGE * len(images), caption and caption.strip()),
            answers=None if references is None else tuple(references),
            license=license or self.license,
            extra=extra,
            file=self.file,
        )


def storable(record: Record) -> Record:
    """Return the record, if all of it can be stored.

    Raises:
        Bad: it holds half a character (a lone surrogate), or a number of more than 64 bits.
    """
    try:
        orjson.dumps(
            [
                record.native_id,
                *((image.path, image.member) for image in record.images),
                *(message.content for message in record.messages),
                record.answers,
                record.choices,
                *((region.label, region.extra) for region in record.regions),
                record.license,
                record.extra,
            ],
            option=orjson.OPT_NON_STR_KEYS,
        )
    except TypeError as error:
        raise Bad("broken_text", f"this record cannot be stored: {error}") from error
    return record


def letter(index: int) -> str:
    """
    >>> letter(0), letter(3)
    ('A', 'D')
    """
    return chr(ord("A") + index)


def pictures(images: Sequence[str | ImageRef]) -> tuple[ImageRef, ...]:
    """Return the references of pictures; a path must stay inside the dataset folder."""
    return tuple(
        image if isinstance(image, ImageRef) else ImageRef(path=safe(image)) for image in images
    )


def turns(user: str, assistant: str | None) -> tuple[Message, ...]:
    """Return the turns of a question and its answer; None: the answer is hidden."""
    asked = Message(role="user", content=user)
    return (asked,) if assistant is None else (asked, Message(role="assistant", content=assistant))


def marked(text: str, images: int) -> str:
    """Return a text with a mark in front for each picture that has none in it.

    >>> marked("Which one?\\nA. <image>", 2)
    '<image>\\nWhich one?\\nA. <image>'
    """
    return f"{IMAGE}\n" * (images - text.count(IMAGE)) + text


def numbered(rows: Iterable[Any], key: str | None = None) -> Iterator[Keyed]:
    """Yield each row behind its field `key`, or behind its position where it has none.

    >>> list(numbered([{"id": 7}, "?"], "id"))
    [(7, {'id': 7}), ('#1', '?')]
    """
    for position, row in enumerate(rows):
        own = row.get(key) if isinstance(row, dict) and key else None
        known = isinstance(own, int | str) and not isinstance(own, bool)
        yield (own if known else f"#{position}"), row


def unique(rows: Iterable[Keyed]) -> Iterator[Keyed]:
    """Yield the rows; where a key was used before, its place tells it apart.

    >>> [key for key, _ in unique([(7, "a"), (7, "b")])]
    ['7', '7#1']
    """
    seen: set[str] = set()
    for position, (own, row) in enumerate(rows):
        key = f"{own}#{position}" if str(own) in seen else str(own)
        seen.add(key)
        yield key, row


def nested(rows: Iterable[Keyed], key: str, inner: str) -> Iterator[Keyed]:
    """Yield the pair (row, entry) for each entry of each row's list `key`, behind the field `inner`.

    A row without the list is one `Bad` in its place.

    >>> list(nested([(1, {"qas": [{"qa_id": 7}]})], "qas", "qa_id"))
    [(7, ({'qas': [{'qa_id': 7}]}, {'qa_id': 7}))]
    """
    for outer, row in rows:
        try:
            entries = need(row, key, list)
        except Bad as bad:
            yield outer, bad
            continue
        for own, entry in numbered(entries, inner):
            yield (f"{outer}{own}" if str(own).startswith("#") else own), (row, entry)


def of_split(rows: Iterable[Keyed], split: str, known: Sequence[str]) -> Iterator[Keyed]:
    """Yield the rows whose field `split` is this one.

    A row of no known split is a `Bad` in its place, of the first split alone.

    >>> list(of_split([(1, {"split": "val"}), (2, {"split": "train"})], "val", ["train", "val"]))
    [(1, {'split': 'val'})]
    """
    for key, row in rows:
        own = row.get("split") if isinstance(row, dict) else None
        if isinstance(row, Bad):
            if split == known[0]:
                yield key, row
        elif own == split:
            yield key, row
        elif own not in known and split == known[0]:
            wanted = ", ".join(known)
            yield key, Bad("unknown_split", f"'split' is {own!r:.80}, expected one of {wanted}")


def chosen(row: Any, key: str, choices: Sequence[Any]) -> int:
    """Return a field that is an index into the choices.

    Raises:
        Bad: it is missing, no whole number, or past the last choice.
    """
    index: int = need(row, key, int)
    if not 0 <= index < len(choices):
        raise Bad("bad_index", f"{key!r} is {index}, with {len(choices)} choices")
    return index


def hidden(row: Any, key: str) -> bool:
    """Tell whether a test split hides a field: the key is missing, null, or an empty text or list."""
    return not isinstance(row, dict) or row.get(key) in (None, "", [])
