"""Packs -> the rows of a batch: tokens and pictures written straight into the batch's tensors."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.images import ImageStore
from catalog.parts import Part, allow_open
from catalog.remote import is_remote
from pipeline.batch import IGNORE, IMAGE_TOKEN, LOCATION_TOKEN, Batch
from pipeline.buffers import Buffers
from pipeline.encode import LOCATION, PICTURE, from_bytes, spots_of, spread, truncate
from pipeline.image import Picture, blank, in_row, look
from pipeline.plan import Pack, Plan
from pipeline.policy import ImagePolicy
from pipeline.spots import SPOT, Spots

assert (IMAGE_TOKEN, LOCATION_TOKEN) == (PICTURE, LOCATION), "encodings and batches mark alike"
WAIT = 600.0
"""Longest wait for one batch, in seconds, before the run stops with a message."""
_SIZES = ("widths", "heights")
OnDamage = Literal["stop", "substitute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    """An open encodings file, and where the pictures of each of its rows lie."""

    texts: Part
    bounds: memoryview
    """Pictures of row i stand in `places` from bounds[i] to bounds[i + 1]."""
    places: memoryview
    """Place of each picture in the store, -1 where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A batch whose rows are still to be filled."""

    batch: Batch
    packs: tuple[Pack, ...]
    """The pack of each row."""
    tiles: list[int]
    """Tiles of row i stand in the batch's pixels from tiles[i] to tiles[i + 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes of some packs, read ahead from an object store."""

    texts: dict[tuple[int, int], memoryview]
    """Part and row of a member -> bytes."""
    pictures: dict[int, memoryview]
    """Place in the store -> bytes."""


class Collator:
    """Fills batches of one plan. Any number of threads may fill rows at the same time."""

    def __init__(
        self,
        plan: Plan,
        catalog: Path | str | Catalog,
        *,
        verify: bool = False,
        on_damage: OnDamage = "stop",
        pin: bool | None = None,
        store: ImageStore | None = None,
    ) -> None:
        opened = Catalog.open(catalog) if is_remote(catalog) else catalog
        given = opened if isinstance(opened, Catalog) else None
        self.plan, self.folder = plan, given.path if given else Path(str(catalog))
        self.remote = given.remote if given else None
        self.verify, self.on_damage = verify, on_damage
        self._store = store or (given or Catalog.open(self.folder)).image_store()
        allow_open(len(plan.header["parts"]) + self._store.files)
        self._policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
        self._length = int(plan.header["recipe"]["packing"]["tokens"])
        self._pin = torch.cuda.is_available() if pin is None else pin
        self._buffers = Buffers()
        self._open: dict[int, _Encoded] = {}
        self._lock = Lock()

    def draft(self, number: int, places: range) -> Draft:
        """Return a step's batch of the packs at these places, its rows still to be filled."""
        step = self.plan.step(number)
        packs = step.packs[places.start : places.stop]
        shape, side = (len(packs), self._length), self._policy.size
        tiles = list(accumulate((pack.tiles for pack in packs), initial=0))
        batch = Batch(
            tokens=self._tensor(shape, torch.int64).zero_(),
            labels=self._tensor(shape, torch.int64).fill_(IGNORE),
            positions=self._tensor(shape, torch.int64).zero_(),
            segments=self._tensor(shape, torch.int32).zero_(),
            pixels=self._pixels(tiles[-1], side),
            step=number,
            packs=tuple(places),
            loss_tokens=step.loss_tokens,
            samples=sum(len(pack.rows) for pack in packs),
            tiles=tuple(pack.tiles for pack in packs),
            order=self._tensor(shape, torch.int64) if self._policy.unpad else None,
            grids=self._tensor((tiles[-1], 2), torch.int64) if self._policy.patch else None,
            fine=self._pixels(tiles[-1], fine) if (fine := self._policy.fine) else None,
            spots=self._tensor((*shape, SPOT.itemsize), torch.uint8) if self.plan.located else None,
        )
        return Draft(batch=batch, packs=packs, tiles=tiles)

    def _tensor(self, shape: Sequence[int], kind: torch.dtype) -> Tensor:
        # Pinned memory is copied to the device while the device computes.
        return torch.empty(shape, dtype=kind, pin_memory=self._pin)

    def _pixels(self, count: int, side: int) -> Tensor:
        """Return room for tiles, channels last in memory, as pictures are decoded and resized."""
        shape = (count, side, side, 3)
        if self._pin:
            return self._tensor(shape, torch.uint8).permute(0, 3, 1, 2)
        return self._buffers.bytes(prod(shape)).view(shape).permute(0, 3, 1, 2)

    def fetch(self, drafts: Sequence[Draft]) -> Fetched:
        """Read all bytes of some batches from an object store, near ones together.

        Raises:
            CuveeError: the store does not give them; says for which steps.
        """
        assert self.remote
        try:
            members = [
                member
                for draft in drafts
                for pack in draft.packs
                for member in zip(pack.parts.tolist(), pack.rows.tolist(), strict=True)
            ]
            encoded = [(self._encoded(part), row) for part, row in members]
            texts = self.remote.texts([(e.texts.path, *e.texts.span(r)) for e, r in encoded])
            places = {p for e, r in encoded for p in e.places[e.bounds[r] : e.bounds[r + 1]]}
            stored = sorted(places - {-1})
            pictures = dict(zip(stored, self._store.load(stored), strict=True))
        except CuveeError as error:
            first, last = drafts[0].batch.step, drafts[-1].batch.step
            steps = f"step {first}" if first == last else f"steps {first} to {last}"
            raise CuveeError(f"{steps}: {error}") from error
        return Fetched(texts=dict(zip(members, texts, strict=True)), pictures=pictures)

    def fill(self, draft: Draft, row: int, fetched: Callable[[], Fetched] | None = None) -> int:
        """Write a pack's samples into a row of the batch; return how many pictures were substituted.

        Of an object store, `fetched` gives what `fetch` has read.

        Raises:
            CuveeError: a sample cannot be loaded; says which, from which file, in which step.
        """
        batch, pack = draft.batch, draft.packs[row]
        held = fetched() if fetched else None
        pixels = batch.pixels[draft.tiles[row] : draft.tiles[row + 1]]
        found: list[_Sample] = []
        used = 0
        for member, (part, place) in enumerate(
            zip(pack.parts.tolist(), pack.rows.tolist(), strict=True)
        ):
            try:
                text = held.texts[part, place] if held else None
                found.append(self._sample(part, place, text, held, pixels[used:]))
            except Exception as error:
                raise self._stopped(batch.step, pack, member, error) from error
            used += sum(len(picture.tiles) for picture in found[-1].pictures)
        line = _Line(*(getattr(batch, name)[row].numpy() for name in _Line.__slots__))
        tokens = line.write(found)
        if (tokens, used) != (pack.tokens, pack.tiles):
            raise CuveeError(
                f"step {batch.step}: {tokens} tokens and {used} tiles loaded, {pack.tokens} and "
                f"{pack.tiles} planned\nFix: run `cuvee plan` again"
            )
        _beside(draft, row, found)
        return sum(sample.damaged for sample in found)

    def _sample(
        self, part: int, row: int, text: memoryview | None, held: Fetched | None, pixels: Tensor
    ) -> "_Sample":
        """Return a sample's tokens, cut as the plan counts on; its tiles become the first of `pixels`."""
        encoded = self._encoded(part)
        pictures: list[Picture] = []
        used = damaged = 0
        first, end = encoded.bounds[row], encoded.bounds[row + 1]
        for number, place in enumerate(encoded.places[first:end]):
            try:
                picture = look(self._bytes(place, held), self._policy, pixels[used:])
            except (OSError, ValueError, RuntimeError, CuveeError) as error:
                if self.on_damage == "stop":
                    image_id = self._row(part, row, "image_ids")[number]
                    raise CuveeError(f"picture {image_id}: {error}") from error
                damaged += 1
                width, height = (self._row(part, row, name)[number] for name in _SIZES)
                picture = blank(width, height, self._policy, pixels[used:])
            pictures.append(picture)
            used += len(picture.tiles)
        data = text or encoded.texts[row]
        room = self._length - sum(picture.visual for picture in pictures)
        ids, mask = truncate(*from_bytes(data), room)
        mask = np.zeros_like(mask) if damaged else mask
        return _Sample(ids, mask, pictures, spots_of(data), damaged)

    def _bytes(self, place: int, held: Fetched | None) -> memoryview:
        if place < 0:
            raise CuveeError("the catalog does not have it any more")
        data = held.pictures[place] if held else self._store.at(place)
        if self.verify and hashlib.sha256(data).digest() != self._store.digest(place):
            raise CuveeError("damaged: its bytes do not match its id")
        return data

    def _encoded(self, part: int) -> _Encoded:
        found = self._open.get(part)
        if found is None:
            # Opened when first needed: a plan of millions of samples starts at once.
            with self._lock:
                found = self._open.get(part) or self._opened(part)
                self._open[part] = found
        return found

    def _opened(self, part: int) -> _Encoded:
        file = self._file(part)
        if self.remote:
            self.remote.skeleton(file)
        if not file.exists():
            raise UserError(f"{file} is gone", fix="run `cuvee plan` again")
        ids = pq.read_table(file, columns=["image_ids"], use_threads=False)[
            "image_ids"
        ].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(ids), 0).to_numpy(zero_copy_only=False)
        bounds = np.append(0, np.cumsum(lengths)).astype(np.int64)
        places = self._store.places(ids.flatten())
        return _Encoded(texts=Part(file), bounds=bounds.data, places=places.data)

    def _file(self, part: int) -> Path:
        return self.folder / str(self.plan.header["parts"][part])

    def _row(self, part: int, row: int, column: str) -> list[int]:
        frame = pl.scan_parquet(self._file(part)).select(column).slice(row, 1).collect()
        values: list[int] = frame.item().to_list()
        return values

    def _stopped(self, step: int, pack: Pack, member: int, error: Exception) -> CuveeError:
        """Return an error that names the sample, its official file and the step."""
        part, row = int(pack.parts[member]), int(pack.rows[member])
        file = self._file(part)
        where = f"step {step}: row {row} of {file}"
        samples = self.folder / "samples" / file.parent.name / file.name
        if samples.exists():
            columns = ["sample_id", "native_id", "file"]
            named = pl.scan_parquet(samples).select(columns).slice(row, 1).collect().row(0)
            where = f"step {step}: sample {named[0]} ({named[1]!r} of {named[2]})"
        return CuveeError(
            f"{where}: {str(error) or type(error).__name__}\n"
            "Fix: run `cuvee verify` to find damaged pictures, then `cuvee ingest` again"
        )


class _Sample(NamedTuple):
    """A sample of a pack, its pictures still one token each."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    """Nothing is learnt of a sample with a damaged picture."""
    pictures: list[Picture]
    spots: Spots
    """What its location tokens point at; where it was cut short, more than it still has."""
    damaged: int
    """Pictures that were substituted."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of each of a batch's tensors, as NumPy arrays over the same memory."""

    tokens: NDArray[np.int64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: NDArray[np.int32]

    def write(self, samples: Sequence[_Sample]) -> int:
        """Write samples one after the other, pictures as visual tokens; return how many tokens.

        All together: a pack has many short samples, and each call to NumPy costs as much as one of them.
        """
        if not samples:
            return 0
        visual = [[picture.visual for picture in sample.pictures] for sample in samples]
        lengths = [len(s.ids) - len(v) + sum(v) for s, v in zip(samples, visual, strict=True)]
        ids = np.concatenate([s.ids for s in samples])
        mask = np.concatenate([s.mask for s in samples])
        tokens, learnt = spread(ids, mask, [count for some in visual for count in some])
        size, starts = len(tokens), np.cumsum(lengths) - lengths
        self.tokens[:size] = tokens
        self.labels[:size] = np.where(learnt, tokens, IGNORE)
        self.positions[:size] = np.arange(size) - np.repeat(starts, lengths)
        self.segments[:size] = np.repeat(np.arange(1, len(samples) + 1), lengths)
        return size


def _beside(draft: Draft, row: int, samples: Sequence[_Sample]) -> None:
    """Write what some policies and conventions have beside tokens and pixels into a row."""
    batch, pictures = draft.batch, [picture for sample in samples for picture in sample.pictures]
    tokens = batch.tokens[row].numpy()
    for number, picture in enumerate(pictures if batch.fine is not None else ()):
        # One tile a picture.
        assert batch.fine is not None
        assert picture.fine is not None
        batch.fine[draft.tiles[row] + number] = picture.fine[0]
    if batch.grids is not None and pictures:
        grids = [picture.grids for picture in pictures if picture.grids is not None]
        batch.grids[draft.tiles[row] : draft.tiles[row + 1]] = torch.cat(grids)
    if batch.order is not None:
        batch.order[row].numpy()[tokens == IMAGE_TOKEN] = in_row(pictures)
    if batch.spots is not None and samples:
        kept = [s.spots[: int((s.ids == LOCATION).sum())] for s in samples]
        raw = np.concatenate(kept).view(np.uint8).reshape(-1, SPOT.itemsize)
        batch.spots[row].numpy()[tokens == LOCATION_TOKEN] = raw
