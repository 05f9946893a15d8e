"""Samples -> token ids and loss masks, one encodings file for each samples file.

A row's data are n token ids as int32, little-endian, then n bytes of loss mask. A picture is the
one id -1; the visual tokens that take its place depend on the image policy, not on the encoding.
Where boxes are location tokens (-2), what they point at follows: k spots of 115 bytes, and k as int32.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import write_part
from catalog.record import IMAGE, REGION_MARK, Task
from catalog.schema import ENCODINGS
from pipeline.prompt import (
    BOXES,
    MARK,
    PICTURE,
    Rendered,
    generation_prompt,
    merged,
    render,
)
from pipeline.spots import LOCATION, LOCATION_MARK, NONE, PIX2EMB, SPOT, Spots, moved, take
from pipeline.typed import Typed

__all__ = [
    "LOCATION",
    "PICTURE",
    "Encoded",
    "Encoder",
    "EncoderConfig",
    "encode",
    "from_bytes",
    "spots_of",
    "spread",
    "to_bytes",
    "truncate",
    "unfold",
]

ENCODE_VERSION = 2
"""Raise when the same samples would give other tokens."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What an encoding depends on; the fast tokenizer needs no other file."""
Ids = NDArray[np.int32]
Mask = NDArray[np.bool_]
Encoded = tuple[Ids, Mask, Spots]
"""Token ids, their loss mask, and what their location tokens point at."""
BATCH = 1_000
"""Samples rendered and tokenised together, in parallel by the fast tokenizer."""
ENCODERS = "encoders"
"""Folder in the catalog that keeps the files of each encoder's tokenizer: plans outlive their source."""
COLUMNS = ("sample_id", "split", "task", "messages", "regions", "n_images", "widths", "heights")
"""Columns of `samples` that a conversation is made of, beside its source."""


def checked_wordings(wordings: tuple[str, ...], whose: str = "") -> tuple[str, ...]:
    """Return instructions unchanged, if they can stand before any picture.

    Raises:
        ValueError: there is none, or one is blank or holds a mark.
    """
    if not wordings or not all(wording.strip() for wording in wordings):
        raise ValueError(f"{whose}give one text or more, none of them blank")
    if held := [w for w in wordings if IMAGE in w or REGION_MARK.search(w)]:
        raise ValueError(f"{whose}{held[0]!r} holds a mark; give words alone")
    return wordings


class EncoderConfig(Typed):
    """What turns a conversation into tokens."""

    tokenizer: Path
    """Local folder with `tokenizer.json` and a chat template, relative to the recipe."""
    boxes: str = "shikra"
    """Convention for boxes as text; `pix2emb` makes each box one location token."""
    system: str | None = None
    prompts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Source, or else task, -> instructions for its samples that show a picture and ask nothing, such as
    captions; each keeps the one that its id draws. Without, a picture alone asks, as in LLaVA's first
    stage."""

    @field_validator("prompts")
    @classmethod
    def _say_something(cls, prompts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for task, wordings in prompts.items():
            checked_wordings(wordings, f"{task}: ")
        return prompts

    @field_validator("boxes")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BOXES:
            raise ValueError(f"no convention {name!r}; one of {', '.join(BOXES)}")
        return name

    @field_validator("tokenizer")
    @classmethod
    def _beside(cls, path: Path, info: ValidationInfo) -> Path:
        folder = (info.context or {}).get("folder", Path())
        return path if path.is_absolute() else folder / path


class Encoder:
    """A tokenizer with its chat template."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config
        if not (config.tokenizer / "tokenizer.json").is_file():
            raise UserError(
                f"{config.tokenizer}: no tokenizer.json there",
                fix="name a local folder with tokenizer.json and tokenizer_config.json",
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's files, the box convention, the system prompt and the prompts."""
        digest = hashlib.sha256(f"{ENCODE_VERSION} {self.config.boxes}".encode())
        digest.update(repr(self.config.system).encode())
        if self.config.prompts:
            digest.update(json.dumps(self.config.prompts, sort_keys=True).encode())
        for name in TOKENIZER_FILES:
            file = self.config.tokenizer / name
            digest.update(file.read_bytes() if file.exists() else b"-")
        return digest.hexdigest()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder, as `transformers` loads it.

        Raises:
            UserError: it cannot be loaded, or has no chat template.
        """
        from transformers import AutoTokenizer

        folder = self.config.tokenizer
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}: no tokenizer that transformers can load: {error}",
                fix="save it again with `save_pretrained`",
            ) from error
        if not isinstance(tokenizer.chat_template, str):
            raise UserError(
                f"{folder}: the tokenizer has no chat template",
                fix="add `chat_template` to tokenizer_config.json",
            )
        return tokenizer

    @cached_property
    def _backend(self) -> Any:
        """A copy of the tokenizer in which `MARK` is one token, its last."""
        from tokenizers import AddedToken, Tokenizer

        backend = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        marks = [MARK, LOCATION_MARK] if self.config.boxes == PIX2EMB else [MARK]
        backend.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in marks])
        return backend

    def _marked(self, ids: Sequence[int]) -> Ids:
        """Return token ids with `PICTURE` and `LOCATION` in place of the marks."""
        marked = np.array(ids, np.int32)
        for mark, kind in ((MARK, PICTURE), (LOCATION_MARK, LOCATION)):
            # Without location tokens, their mark is no token.
            marked[marked == self._backend.token_to_id(mark)] = kind
        return marked

    def prompt(self, row: Mapping[str, Any]) -> list[int]:
        """Return the token ids that ask a row's last question, `PICTURE` for each picture."""
        ids, _ = self.located_prompt(row)
        return ids

    def located_prompt(self, row: Mapping[str, Any]) -> tuple[list[int], Spots]:
        """Return the same, and what the location tokens in it point at."""
        config, spots = self.config, NONE
        text = generation_prompt(
            row,
            self.tokenizer,
            boxes=config.boxes,
            system=config.system,
            prompts=config.prompts,
        )
        if config.boxes == PIX2EMB:
            text, _, spots = take(text, row)
        found = self._backend.encode(text, add_special_tokens=False)
        return self._marked(found.ids).tolist(), spots

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Ids, Mask]]:
        """Return the token ids and the loss mask of each row, both of one length.

        A conversation that the chat template refuses gives its picture marks and no text.
        """
        return [(ids, mask) for ids, mask, _ in self.encode_merged([[row] for row in rows])]

    def encode_merged(self, groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[Encoded]:
        """Return the same and its spots for conversations of rows that share one picture."""
        rendered = [self._render(rows) for rows in groups]
        texts = [found.text for found, _ in rendered]
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        found = []
        for (text, spots), tokens in zip(rendered, encoded, strict=True):
            ids = self._marked(tokens.ids)
            mask = _learnt(np.array(tokens.offsets, np.int64).reshape(-1, 2), text.spans)
            found.append((ids, mask & (ids != PICTURE), spots))
        return found

    def _render(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Rendered, Spots]:
        from jinja2 import TemplateError

        try:
            turns = merged(rows, BOXES[self.config.boxes], self.config.system, self.config.prompts)
            found = render(turns, self.tokenizer)
        except TemplateError:
            return Rendered(text=MARK * int(rows[0]["n_images"]), spans=()), NONE
        if self.config.boxes != PIX2EMB:
            return found, NONE
        regions = [region for row in rows for region in row["regions"]]
        text, taken, spots = take(found.text, {**rows[0], "regions": regions})
        spans = tuple((moved(start, taken), moved(end, taken)) for start, end in found.spans)
        return Rendered(text=text, spans=spans), spots


def _learnt(offsets: NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> Mask:
    """Return which tokens begin in a learnt span; `offsets` (n, 2) are characters.

    >>> _learnt(np.array([[0, 3], [3, 5], [5, 9]]), [(3, 6)])
    array([False,  True,  True])
    """
    if not spans:
        return np.zeros(len(offsets), np.bool_)
    starts, ends = np.array(spans, np.int64).T
    span = np.searchsorted(starts, offsets[:, 0], side="right") - 1
    inside: Mask = (span >= 0) & (offsets[:, 0] < ends[span]) & (offsets[:, 1] > offsets[:, 0])
    return inside


def to_bytes(ids: Ids, mask: Mask, spots: Spots = NONE) -> bytes:
    """Return a row's `data`."""
    text = ids.astype("<i4").tobytes() + mask.astype(np.uint8).tobytes()
    if not len(spots):
        return text
    return text + spots.tobytes() + np.array(len(spots), "<i4").tobytes()


def from_bytes(data: bytes | memoryview) -> tuple[Ids, Mask]:
    """Return the token ids and the loss mask of a row's `data`, without copying them."""
    count = (len(data) - _tail(data)) // 5
    return np.frombuffer(data, "<i4", count), np.frombuffer(data, np.bool_, count, offset=count * 4)


def spots_of(data: bytes | memoryview) -> Spots:
    """Return what the location tokens of a row's `data` point at, without copying it."""
    tail = _tail(data)
    return np.frombuffer(data, SPOT, tail // SPOT.itemsize, offset=len(data) - tail)


def _tail(data: bytes | memoryview) -> int:
    """Return the bytes after ids and loss mask. Both these and spots take multiples of five bytes."""
    if len(data) % 5 == 0:
        return 0
    return int(np.frombuffer(data, "<i4", 1, offset=len(data) - 4)[0]) * SPOT.itemsize + 4


def truncate(ids: Ids, mask: Mask, text: int) -> tuple[Ids, Mask]:
    """Keep the first `text` text tokens and all pictures.

    >>> truncate(np.array([5, -1, 6, 7]), np.array([0, 0, 1, 1], bool), 2)
    (array([ 5, -1,  6]), array([False, False,  True]))
    """
    if len(ids) <= text:
        return ids, mask
    pictures = ids == PICTURE
    if len(ids) - int(pictures.sum()) <= text:
        return ids, mask
    keep = pictures | (np.cumsum(~pictures) <= text)
    return ids[keep], mask[keep]


def unfold(
    ids: Ids, mask: Mask, visual: Sequence[int], length: int
) -> tuple[NDArray[np.int64], Mask]:
    """Return a sample as it stands in a pack: each picture as its number of visual tokens.

    The plan counts on a sample longer than a pack being cut to its room for text.

    >>> unfold(np.array([5, -1, 6], np.int32), np.array([0, 0, 1], bool), [2], 8)[0].tolist()
    [5, -1, -1, 6]
    """
    return spread(*truncate(ids, mask, length - sum(visual)), visual)


def spread(ids: Ids, mask: Mask, visual: Sequence[int]) -> tuple[NDArray[np.int64], Mask]:
    """Return tokens with each picture as its number of visual tokens."""
    tokens = ids.astype(np.int64)
    if visual:
        repeats = np.ones(len(tokens), np.int64)
        repeats[tokens == PICTURE] = visual
        tokens, mask = np.repeat(tokens, repeats), np.repeat(mask, repeats)
    return tokens, mask


def encode(
    catalog: Catalog,
    config: EncoderConfig,
    sources: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Encode the samples files that this encoder has not encoded yet; return its fingerprint.

    `progress` is called with the number of samples after each file.

    Raises:
        UserError: prompts are given for what the catalog does not have.
    """
    known = [*get_args(Task), *catalog.sources()]
    if unknown := [name for name in config.prompts if name not in known]:
        raise UserError(
            f"prompts for {', '.join(unknown)}: neither a task nor a source of the catalog",
            fix=f"one of {', '.join(known)}",
        )
    encoder = Encoder(config)
    name = encoder.fingerprint
    _keep(config.tokenizer, catalog.path / ENCODERS / name)
    done = {(file.parent.name, file.stem) for file in catalog.files("encodings", encoder=name)}
    for source in sources if sources is not None else catalog.sources():
        for file in catalog.files("samples", source=source):
            if (file.parent.name, file.stem) in done:
                continue
            staged = catalog.path / ".staging" / name / file.name
            samples = pl.read_parquet(file, columns=[*COLUMNS, "image_ids"])
            table = _table(encoder, samples, source)
            write_part(staged, table, binary="data")
            # A commit a file: a killed run continues at the file it was at.
            catalog.commit_encodings(name, source, [staged])
            if progress:
                progress(len(table))
    return name


def _keep(tokenizer: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists() and not (folder / name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            new = folder / f".{name}.{os.getpid()}.new"
            new.write_bytes((tokenizer / name).read_bytes())
            new.replace(folder / name)


def _table(encoder: Encoder, samples: pl.DataFrame, source: str) -> pa.Table:
    rows = samples.select(*COLUMNS, pl.lit(source).alias("source")).to_dicts()
    encoded = [
        found
        for first in range(0, len(rows), BATCH)
        for found in encoder.encode_merged([[row] for row in rows[first : first + BATCH]])
    ]
    kept = ("sample_id", "split", "n_images", "widths", "heights", "image_ids")
    return encodings_table({name: samples[name].to_arrow() for name in kept}, encoded)


def encodings_table(kept: Mapping[str, pa.Array], encoded: Sequence[Encoded]) -> pa.Table:
    """Return an encodings table of columns that are kept from elsewhere, and of the encoded rows."""
    data = [to_bytes(*found) for found in encoded]
    columns = dict(kept) | {
        "n_tokens": pa.array([int((ids != PICTURE).sum()) for ids, _, _ in encoded], pa.int32()),
        "n_loss": pa.array([int(mask.sum()) for _, mask, _ in encoded], pa.int32()),
        "size": pa.array([len(value) for value in data], pa.int32()),
        "data": pa.array(data, pa.binary()),
    }
    arrays = [
        columns.get(field.name, pa.nulls(len(data), field.type)).cast(field.type)
        for field in ENCODINGS
    ]
    return pa.Table.from_arrays(arrays, schema=ENCODINGS)
