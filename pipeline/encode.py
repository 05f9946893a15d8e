"""Samples -> token ids and loss masks, one encodings file for each samples file.

A row's data are n token ids as int32, little-endian, then n bytes of loss mask. A picture is the
one id -1; the visual tokens that take its place depend on the image policy, not on the encoding.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core.core_schema import ValidationInfo

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import write_part
from catalog.record import IMAGE
from catalog.schema import ENCODINGS
from pipeline.prompt import BOXES, Turn, conversation

ENCODE_VERSION = 1
"""Raise when the same samples would give other tokens."""
PICTURE = -1
"""Stands in the token ids where a picture stands."""
_MARK = "\ue0ff"
"""Stands in the rendered text where a picture stands: a private-use character."""
_COLUMNS = ("sample_id", "split", "task", "messages", "regions", "n_images", "widths", "heights")


class EncoderConfig(BaseModel):
    """What turns a conversation into tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: Path
    """Local folder with `tokenizer.json` and a chat template, relative to the recipe."""
    boxes: str = "shikra"
    """Convention for boxes as text."""
    system: str | None = None

    @field_validator("boxes")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BOXES:
            raise ValueError(f"one of {', '.join(BOXES)}")
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
        """SHA-256 of the tokenizer's files, the box convention and the system prompt."""
        digest = hashlib.sha256(f"{ENCODE_VERSION} {self.config.boxes}".encode())
        digest.update(repr(self.config.system).encode())
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            file = self.config.tokenizer / name
            digest.update(file.read_bytes() if file.exists() else b"-")
        return digest.hexdigest()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(self.config.tokenizer))
        if not tokenizer.chat_template:
            raise UserError(
                f"{self.config.tokenizer}: the tokenizer has no chat template",
                fix="add `chat_template` to tokenizer_config.json",
            )
        return tokenizer

    def render(self, turns: Sequence[Turn], *, ask: bool = False) -> str:
        """Return the text of a conversation; `ask` adds the head of the assistant's next turn."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=ask
        )
        return text

    def turns(self, row: Mapping[str, Any]) -> list[Turn]:
        """Return a row's conversation with its picture marks made unmistakable."""
        turns = conversation(row, BOXES[self.config.boxes], self.config.system)
        clean = [(turn, turn.content.replace(_MARK, "\ufffd")) for turn in turns]
        marked = [text.replace(IMAGE, _MARK) if row["n_images"] else text for _, text in clean]
        return [
            Turn(role=turn.role, content=text, loss=turn.loss)
            for turn, text in zip(turns, marked, strict=True)
        ]

    def spans(self, turns: Sequence[Turn], text: str) -> list[tuple[int, int]]:
        """Return where in the rendered text the learnt turns stand, end-of-turn mark included."""
        spans = []
        for number, turn in enumerate(turns):
            if not turn.loss:
                continue
            before, after = self.render(turns[:number], ask=True), self.render(turns[: number + 1])
            if not after.startswith(before) or not text.startswith(after):
                raise UserError(
                    f"{self.config.tokenizer}: the chat template changes earlier turns",
                    fix="use a template that only appends",
                )
            spans.append((len(before), len(after.rstrip("\n"))))
        return spans

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], list[int]]]:
        """Return the token ids and the loss mask (0 or 1) of each row."""
        texts, spans, pieces = [], [], []
        for row in rows:
            turns = self.turns(row)
            texts.append(self.render(turns))
            spans.append(self.spans(turns, texts[-1]))
            pieces.append(texts[-1].split(_MARK))
        backend = self.tokenizer.backend_tokenizer
        flat = [piece for text in pieces for piece in text]
        encoded = iter(backend.encode_batch(flat, add_special_tokens=False))
        return [
            self._join(list(islice(encoded, len(text))), text, learnt)
            for text, learnt in zip(pieces, spans, strict=True)
        ]

    def _join(
        self, encoded: Sequence[Any], pieces: Sequence[str], learnt: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        mask: list[int] = []
        start = 0
        for number, (piece, found) in enumerate(zip(pieces, encoded, strict=True)):
            if number:
                ids.append(PICTURE)
                mask.append(0)
            ids += found.ids
            mask += [
                int(any(a <= start + first and start + last <= b for a, b in learnt))
                for first, last in found.offsets
            ]
            start += len(piece) + len(_MARK)
        return ids, mask


def encode(
    catalog: Catalog,
    config: EncoderConfig,
    sources: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Encode the samples files that this encoder has not encoded yet; return its fingerprint.

    `progress` is called with the number of samples after each file.
    """
    encoder = Encoder(config)
    name = encoder.fingerprint
    for source in sources if sources is not None else catalog.sources():
        done = {file.stem for file in catalog.files("encodings", encoder=name, source=source)}
        for file in catalog.files("samples", source=source):
            if file.stem in done:
                continue
            staged = catalog.path / ".staging" / name / file.name
            table = _table(encoder, pl.read_parquet(file, columns=[*_COLUMNS, "image_ids"]))
            write_part(staged, table, binary="data")
            # A commit a file: a killed run continues at the file it was at.
            catalog.commit_encodings(name, source, [staged])
            if progress:
                progress(len(table))
    return name


def _table(encoder: Encoder, samples: pl.DataFrame) -> pa.Table:
    rows = samples.select(_COLUMNS).to_dicts()
    encoded = encoder.encode(rows) if rows else []
    data = [
        np.array(ids, "<i4").tobytes() + np.array(mask, np.uint8).tobytes() for ids, mask in encoded
    ]
    columns = samples.to_dict(as_series=False)
    return pa.table(
        {
            "sample_id": columns["sample_id"],
            "split": columns["split"],
            "n_tokens": [
                len(ids) - n for (ids, _), n in zip(encoded, columns["n_images"], strict=True)
            ],
            "n_loss": [sum(mask) for _, mask in encoded],
            "n_images": columns["n_images"],
            "widths": columns["widths"],
            "heights": columns["heights"],
            "image_ids": columns["image_ids"],
            "size": [len(value) for value in data],
            "data": data,
        },
        schema=ENCODINGS,
    )
