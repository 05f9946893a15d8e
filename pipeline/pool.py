"""What an entry of a recipe can draw: its sources' samples as a few numbers each.

Read from the encodings files, some files at a time: about 36 bytes of memory a sample.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.errors import UserError
from catalog.parts import Part
from pipeline.encode import from_bytes, truncate
from pipeline.mixture import Mixture, Share, Unit
from pipeline.where import nothing_left, wanted_rows

BLOCK_ROWS = 5_000
"""Rows of a file that a block shuffle reads together: what ingest writes as one file."""
Place = tuple[int, Path, Path | None]
"""Place in the plan's parts, encodings file, samples file: None where turns were merged."""
ROWS_AT_ONCE = 1_000_000
"""Rows read together, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Samples as columns, all of one length, in the order of the plan's parts."""

    part: NDArray[np.uint32]
    row: NDArray[np.uint32]
    key: NDArray[np.uint64]
    """Hangs on a sample's file and row alone: what its place in every shuffle comes from."""
    text: NDArray[np.int32]
    """Text tokens, after truncation."""
    loss: NDArray[np.int32]
    images: NDArray[np.int32]
    tiles: NDArray[np.int32]
    members: NDArray[np.int32]
    """Samples: more than 1 where turns were merged."""
    visual: NDArray[np.int32]
    """Visual tokens."""
    left_out: dict[str, int]
    """Reason -> samples that cannot be drawn: `unlearnt` and `overlong`."""
    truncated: int

    def __len__(self) -> int:
        return len(self.row)

    @property
    def blocks(self) -> NDArray[np.uint64]:
        """The stretch of a file that each sample lies in: about a row group."""
        return self.key - self.row % np.uint32(BLOCK_ROWS)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Text and visual tokens."""
        return self.text.astype(np.int64) + self.visual

    def unit(self, name: Unit) -> NDArray[np.int64]:
        """Return what each sample weighs in a unit."""
        match name:
            case "samples":
                return self.members.astype(np.int64)
            case "images":
                return self.images.astype(np.int64)
            case "text_tokens":
                return self.text.astype(np.int64)
            case "visual_tokens":
                return self.visual.astype(np.int64)
            case "all_tokens":
                return self.tokens
            case "loss_tokens":
                return self.loss.astype(np.int64)


def read_pool(mixture: Mixture, share: Share, parts: Sequence[Place]) -> Pool:
    """Return the samples of an entry; `parts` are its files.

    Raises:
        UserError: `where` cannot be read, or no sample is left; says how many were, and why.
    """
    pools = []
    for together, counts in _together(parts):
        samples = [samples for _, _, samples in together if samples is not None]
        # Merged samples have been chosen before they were merged.
        keep = wanted_rows(mixture, share, samples, sum(counts)) if samples else None
        pools.append(_read(mixture, together, counts, keep, merged=not samples))
    pool = _joined(pools, mixture)
    if not len(pool) and not sum(pool.left_out.values()):
        raise nothing_left(mixture, share, [samples for _, _, samples in parts if samples])
    if not len(pool):
        raise UserError(
            f"{mixture.name}: {share.name} has no usable sample: {pool.left_out['unlearnt']} have "
            f"nothing to learn, {pool.left_out['overlong']} are longer than "
            f"{mixture.packing.tokens} tokens or {mixture.packing.tiles} tiles",
            fix="raise `packing`, or take the entry out",
        )
    return pool


def _together(
    parts: Sequence[Place],
) -> list[tuple[list[Place], list[int]]]:
    """Group files of one source, up to some number of rows; return each file's rows too."""
    groups: list[tuple[list[Place], list[int]]] = []
    rows, folder = 0, Path()
    for part in parts:
        if rows >= ROWS_AT_ONCE or part[1].parent != folder:
            groups.append(([], []))
            rows, folder = 0, part[1].parent
        count = int(pq.read_metadata(part[1]).num_rows)
        groups[-1][0].append(part)
        groups[-1][1].append(count)
        rows += count
    return groups


def _read(
    mixture: Mixture,
    parts: Sequence[Place],
    counts: Sequence[int],
    wanted: NDArray[np.bool_] | None,
    *,
    merged: bool,
) -> Pool:
    policy, packing = mixture.image, mixture.packing
    columns = ["n_tokens", "n_loss", "n_images", "widths", "heights"]
    files = [file for _, file, _ in parts]
    frame = pl.read_parquet(files, columns=[*columns, *(["members"] if merged else [])])
    members = np.ones(len(frame), np.int32)
    if merged:
        members = frame["members"].list.len().cast(pl.Int32).to_numpy()
    text, loss, images = (frame[name].to_numpy() for name in columns[:3])
    tiles, visual = np.zeros(len(frame), np.int32), np.zeros(len(frame), np.int64)
    shown = images > 0
    sizes = [frame[side].explode(empty_as_null=False).to_numpy() for side in ("widths", "heights")]
    if len(sizes[0]):
        first = np.cumsum(images[shown]) - images[shown]
        tiles[shown] = np.add.reduceat(policy.tiles(*sizes), first)
        visual = tiles.astype(np.int64) * policy.tokens
        if policy.unpad:
            visual[shown] = np.add.reduceat(policy.visual(*sizes), first)
    place = np.repeat(np.array([number for number, _, _ in parts], np.uint32), counts)
    row = np.concatenate([np.arange(count, dtype=np.uint32) for count in counts])
    base = np.repeat(np.array([_file_key(file) for _, file, _ in parts], np.uint64), counts)
    chosen = np.ones(len(frame), np.bool_) if wanted is None else wanted
    learnt = chosen & (loss > 0)
    over = learnt & ((text + visual > packing.tokens) | (tiles > packing.tiles))
    keep, truncated = learnt & ~over, 0
    if packing.overlong == "truncate":
        can = np.flatnonzero(over & (tiles <= packing.tiles) & (visual < packing.tokens))
        text, loss = text.copy(), loss.copy()
        _cut(parts, place, row, can, (packing.tokens - visual[can]).astype(np.int32), text, loss)
        can = can[loss[can] > 0]
        keep[can] = True
        truncated = int(members[can].sum())
    return Pool(
        part=place[keep],
        row=row[keep],
        key=(base + row)[keep],
        text=text[keep],
        loss=loss[keep],
        images=images[keep],
        tiles=tiles[keep],
        members=members[keep],
        visual=visual[keep].astype(np.int32),
        left_out={
            "unlearnt": int(members[chosen & (loss <= 0) & ~over].sum()),
            "overlong": int(members[over & ~keep].sum()),
        },
        truncated=truncated,
    )


def _file_key(file: Path) -> int:
    return int.from_bytes(hashlib.sha256(file.stem.encode()).digest()[:8], "big")


def _cut(
    parts: Sequence[Place],
    place: NDArray[np.uint32],
    row: NDArray[np.uint32],
    samples: NDArray[np.int64],
    limits: NDArray[np.int32],
    text: NDArray[np.int32],
    loss: NDArray[np.int32],
) -> None:
    """Count what over-long samples have left after truncation; only these are read."""
    for number, file, _ in parts:
        mine = place[samples] == number
        if not mine.any():
            continue
        data = Part(file)
        for sample, limit in zip(samples[mine].tolist(), limits[mine].tolist(), strict=True):
            _, mask = truncate(*from_bytes(data[int(row[sample])]), limit)
            text[sample], loss[sample] = limit, int(mask.sum())


def _joined(pools: Sequence[Pool], mixture: Mixture) -> Pool:
    if len(pools) == 1:
        return pools[0]
    names = ("part", "row", "key", "text", "loss", "images", "tiles", "members", "visual")
    return Pool(
        **{name: np.concatenate([getattr(pool, name) for pool in pools]) for name in names},
        left_out={
            reason: sum(pool.left_out[reason] for pool in pools)
            for reason in ("unlearnt", "overlong")
        },
        truncated=sum(pool.truncated for pool in pools),
    )
