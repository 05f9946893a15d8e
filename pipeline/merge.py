"""Samples on one picture -> one conversation that shows it once: derived encodings files of a source.

Several questions a picture are common, and the picture's tokens are most of each. Merged rows keep the
list of their samples. What cannot be merged (no answer, no picture or several, a system turn of its own,
longer together than a pack) stays as it was encoded.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from catalog import Catalog
from catalog.parts import Part, write_part
from pipeline.draws import seed_of, splitmix
from pipeline.encode import COLUMNS, Encoded, Encoder, encodings_table, from_bytes, spots_of
from pipeline.ingest import CHUNK_RECORDS
from pipeline.mixture import Mixture, Share
from pipeline.where import wanted_rows

MERGE_VERSION = 1
"""Raise when the same samples would give other conversations."""
HASHED = 15
"""Leading hexadecimal digits of a sample's id that its place in a conversation hangs on."""


def merged_parts(
    catalog: Catalog, mixture: Mixture, share: Share, source: str, base: Sequence[Path]
) -> list[Path]:
    """Merge the samples of a source, unless that is done; return the derived encodings files.

    `base` are the encodings files of the source's samples files, in the same order.
    """
    encoder = Encoder(mixture.encoder)
    derived, content = _names(mixture, share, encoder, base)
    found = _of(catalog, derived, source, content)
    if not found and base:
        tables = _tables(catalog, mixture, share, source, base, encoder)
        staged = []
        for number, table in enumerate(tables):
            staged.append(catalog.path / ".staging" / derived / f"{content}-{number:05}.parquet")
            write_part(staged[-1], table, binary="data")
        # One commit: either all conversations of a source are there, or none.
        catalog.commit_encodings(derived, source, staged)
        found = _of(catalog, derived, source, content)
    return found


def found_merged(
    catalog: Catalog, mixture: Mixture, share: Share, source: str, base: Sequence[Path]
) -> list[Path]:
    """Return the derived encodings files of a source, none if it was not merged yet."""
    derived, content = _names(mixture, share, Encoder(mixture.encoder), base)
    return _of(catalog, derived, source, content)


def _names(
    mixture: Mixture, share: Share, encoder: Encoder, base: Sequence[Path]
) -> tuple[str, str]:
    """Return what merged files are kept under: their encoder, and the hash of what they hold."""
    settings = [
        MERGE_VERSION,
        encoder.fingerprint,
        share.turns_per_image,
        share.where,
        mixture.licenses,
        share.licenses,
        mixture.packing.tokens,
        mixture.image.fingerprint,
    ]
    derived = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    content = hashlib.sha256("/".join(file.stem for file in base).encode()).hexdigest()
    return derived, content


def _of(catalog: Catalog, derived: str, source: str, content: str) -> list[Path]:
    files = catalog.files("encodings", encoder=derived, source=source)
    return [file for file in files if file.stem.startswith(f"{content}-")]


def _tables(
    catalog: Catalog,
    mixture: Mixture,
    share: Share,
    source: str,
    base: Sequence[Path],
    encoder: Encoder,
) -> list[pa.Table]:
    samples = catalog.files("samples", source=source)
    rows = pl.read_parquet(samples, columns=[*COLUMNS, "image_ids"])
    rows = rows.with_columns(pl.lit(source).alias("source"))
    lengths = pl.read_parquet(list(base), columns=["n_tokens", "n_loss"])
    keep = wanted_rows(mixture, share, samples, len(rows))
    chosen = np.arange(len(rows)) if keep is None else np.flatnonzero(keep)
    groups = _groups(mixture, share, source, rows.hstack(lengths), chosen)
    files = [Part(file) for file in base]
    ends = np.cumsum([len(part) for part in files])

    def encoded(row: int) -> Encoded:
        file = int(np.searchsorted(ends, row, side="right"))
        data = files[file][row - int(ends[file]) + len(files[file])]
        return *from_bytes(data), spots_of(data)

    tables = []
    for first in range(0, len(groups), CHUNK_RECORDS):
        chunk = groups[first : first + CHUNK_RECORDS]
        several = [group for group in chunk if len(group) > 1]
        talks = iter(encoder.encode_merged([rows[group].to_dicts() for group in several]))
        pairs = [next(talks) if len(group) > 1 else encoded(group[0]) for group in chunk]
        heads = rows[[group[0] for group in chunk]]
        kept = {
            name: heads[name].to_arrow()
            for name in ("sample_id", "split", "n_images", "widths", "heights", "image_ids")
        }
        ids = rows["sample_id"]
        kept["members"] = pa.array([ids[group].to_list() for group in chunk], pa.list_(pa.string()))
        tables.append(encodings_table(kept, pairs))
    return tables


def _groups(
    mixture: Mixture, share: Share, source: str, rows: pl.DataFrame, chosen: NDArray[np.int64]
) -> list[list[int]]:
    """Return the rows of each conversation, conversations in the order of their first rows."""
    last = pl.col("messages").list.last().struct.field("role")
    apart = pl.col("messages").list.eval(pl.element().struct.field("role") == "system").list.any()
    room = mixture.packing.tokens - mixture.image.visual(
        rows["widths"].list.first().fill_null(1).to_numpy(),
        rows["heights"].list.first().fill_null(1).to_numpy(),
    )
    frame = rows.select(
        pl.int_range(pl.len()).alias("row"),
        "split",
        pl.col("image_ids").list.first().alias("picture"),
        "n_tokens",
        pl.Series("room", room),
        (
            (pl.col("n_images") == 1)
            & (pl.col("n_loss") > 0)
            & ((last == "assistant") | (pl.col("task") == "grounding"))
            & ~apart
        ).alias("can"),
        pl.Series("turn", _turns(rows["sample_id"], source)),
    )[chosen]
    together = (
        frame.filter("can")
        .sort("split", "picture", "turn")
        .with_columns(
            (pl.int_range(pl.len()).over("split", "picture") // share.turns_per_image).alias("part")
        )
        .group_by("split", "picture", "part", maintain_order=True)
        .agg("row", pl.col("n_tokens").sum(), pl.col("room").min())
    )
    fits = pl.col("n_tokens") <= pl.col("room")
    alone = pl.concat(
        [
            frame.filter(~pl.col("can")).select("row"),
            together.filter(~fits).select(pl.col("row").explode()),
        ]
    )
    groups: list[list[int]] = [*together.filter(fits)["row"].to_list()]
    groups += [[row] for row in alone["row"].to_list()]
    return sorted(groups, key=min)


def _turns(ids: pl.Series, source: str) -> NDArray[np.uint64]:
    """Return what orders the samples of a picture: a hash of the sample's id and the source's name."""
    leading = ids.str.slice(0, HASHED).str.to_integer(base=16).to_numpy().astype(np.uint64)
    return splitmix(leading, seed_of("turns", source))
