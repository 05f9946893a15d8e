"""What an entry of a recipe can draw: its sources' samples as a few numbers each.

Read from the encodings files, some files at a time: about 36 bytes of memory a sample.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
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
FILES_AT_ONCE = 200
"""Files read together: a million rows of those that ingest writes."""


SIZES_WORTH = 20
"""Pictures for each distinct size from which it is quicker to look at distinct ones alone."""


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
    for together in _together(parts):
        pools.append(_read(mixture, share, together))
    pool = _joined(pools, mixture)
    if not len(pool) and not sum(pool.left_out.values()):
        raise nothing_left(mixture, share, [samples for _, _, samples in parts if samples])
    if not len(pool):
        raise UserError(
            f"{mixture.at(share)}: {share.name} has no usable sample: {pool.left_out['unlearnt']} have "
            f"nothing to learn, {pool.left_out['overlong']} are longer than "
            f"{mixture.packing.tokens} tokens or {mixture.packing.tiles} tiles",
            fix="raise `packing`, or take the entry out",
        )
    return pool


def _together(parts: Sequence[Place]) -> list[list[Place]]:
    """Group files of one source, up to some number of them."""
    groups: list[list[Place]] = []
    for part in parts:
        if (
            not groups
            or len(groups[-1]) == FILES_AT_ONCE
            or groups[-1][0][1].parent != part[1].parent
        ):
            groups.append([])
        groups[-1].append(part)
    return groups


def _read(mixture: Mixture, share: Share, parts: Sequence[Place]) -> Pool:
    policy, packing = mixture.image, mixture.packing
    samples = [samples for _, _, samples in parts if samples is not None]
    columns = ["n_tokens", "n_loss", "n_images", "widths", "heights"]
    if not samples:
        columns.append("members")
    files = [file for _, file, _ in parts]
    frame = pl.scan_parquet(files, include_file_paths="file").select(*columns, "file").collect()
    counts = _rows(frame["file"], files)
    # Merged samples have been chosen before they were merged.
    wanted = wanted_rows(mixture, share, samples, len(frame)) if samples else None
    members = np.ones(len(frame), np.int32)
    if not samples:
        members = frame["members"].list.len().cast(pl.Int32).to_numpy()
    text, loss, images = (frame[name].to_numpy() for name in columns[:3])
    tiles = _of_pictures(frame, images, policy.tiles).astype(np.int32, copy=False)
    if policy.unpad:
        visual = _of_pictures(frame, images, policy.visual).astype(np.int32, copy=False)
    else:
        visual = tiles * np.int32(policy.tokens)
    place = np.repeat(np.array([number for number, _, _ in parts], np.uint32), counts)
    starts = np.cumsum(counts) - counts
    row = np.arange(len(frame), dtype=np.uint32) - np.repeat(starts.astype(np.uint32), counts)
    key = np.repeat(np.array([_file_key(file) for file in files], np.uint64), counts) + row
    chosen = np.ones(len(frame), np.bool_) if wanted is None else wanted
    learnt = chosen & (loss > 0)
    over = learnt & ((text + visual > packing.tokens) | (tiles > packing.tiles))
    keep, truncated = learnt & ~over, 0
    if packing.overlong == "truncate":
        can = np.flatnonzero(over & (tiles <= packing.tiles) & (visual < packing.tokens))
        text, loss = text.copy(), loss.copy()
        _cut(parts, place, row, can, packing.tokens - visual[can], text, loss)
        can = can[loss[can] > 0]
        keep[can] = True
        truncated = int(members[can].sum())
    values = {
        "part": place,
        "row": row,
        "key": key,
        "text": text,
        "loss": loss,
        "images": images,
        "tiles": tiles,
        "members": members,
        "visual": visual,
    }
    if not keep.all():
        values = {name: column[keep] for name, column in values.items()}
    return Pool(
        **values,
        left_out={
            "unlearnt": int(members[chosen & (loss <= 0) & ~over].sum()),
            "overlong": int(members[over & ~keep].sum()),
        },
        truncated=truncated,
    )


def _rows(names: pl.Series, files: Sequence[Path]) -> NDArray[np.int64]:
    """Return the rows of each file; `names` tells the file of each row, in the files' order."""
    runs = names.rle()
    found = dict(
        zip(runs.struct.field("value").to_list(), runs.struct.field("len").to_list(), strict=True)
    )
    return np.array([found.get(str(file), 0) for file in files], np.int64)


def _of_pictures(
    frame: pl.DataFrame,
    images: NDArray[np.int32],
    count: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]],
) -> NDArray[Any]:
    """Return the sum over each row's pictures of what `count` says of their widths and heights."""
    widths, heights = (
        frame[name].explode(empty_as_null=False).to_numpy().astype(np.int64)
        for name in ("widths", "heights")
    )
    if not len(widths):
        return np.zeros(len(frame), np.int32)
    sizes = (widths << 32) | heights
    # Most pictures have one of few sizes.
    distinct = pl.Series(sizes).unique().sort().to_numpy()
    if len(distinct) * SIZES_WORTH < len(sizes):
        flat = count(distinct >> 32, distinct & 0xFFFFFFFF)
        flat = flat.take(np.searchsorted(distinct, sizes))
    else:
        flat = count(widths, heights)
    shown = images > 0
    if len(flat) == len(frame) and shown.all():
        return flat
    sums = np.zeros(len(frame), flat.dtype)
    sums[shown] = np.add.reduceat(flat, np.cumsum(images[shown]) - images[shown])
    return sums


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
