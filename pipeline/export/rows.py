"""A plan's steps -> its samples in the order of training, with text as it is trained on, and pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from catalog import Catalog
from catalog.errors import UserError
from catalog.images import ImageStore
from catalog.parts import Part
from pipeline.boxes import BOXES
from pipeline.encode import from_bytes, unfold
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from pipeline.prompt import MARK, conversation

IMAGE = "<image>"
"""Stands where a picture stands, in all exports."""
_COLUMNS = (
    *("sample_id", "native_id", "split", "task", "messages", "regions", "n_images", "widths"),
    *("heights", "image_ids", "license", "file"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One draw of a sample: where it stands in the plan, and what it holds."""

    step: int
    pack: int
    member: int
    """Place in the pack."""
    sample_id: str
    messages: tuple[dict[str, str], ...]
    """`role` and `content`, `IMAGE` where a picture stands; roles are system, user and assistant."""
    pictures: tuple[tuple[str, memoryview], ...]
    """Name (id and ending) and original bytes."""
    origin: dict[str, str]
    """source, split, native_id, file, license."""
    ids: NDArray[np.int64]
    """Token ids as they stand in the pack, -1 for each visual token."""
    mask: NDArray[np.bool_]
    """Which of them are learnt."""

    @property
    def tokens(self) -> int:
        """Length in the pack: text and visual tokens."""
        return len(self.ids)

    @property
    def key(self) -> str:
        return f"{self.step:08}-{self.pack:04}-{self.member:04}"


class Rows:
    """Reads the samples of a plan; a stretch of steps opens each file it needs once."""

    def __init__(self, plan: Plan, catalog: Path) -> None:
        self.plan, self._catalog = plan, catalog
        opened = Catalog.open(catalog, plan.header["catalog_version"])
        self._store: ImageStore = Catalog.open(catalog).image_store()
        self._samples = {(file.parent.name, file.stem): file for file in opened.files("samples")}
        self._policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
        self._length = int(plan.header["recipe"]["packing"]["tokens"])
        encoder = plan.header["recipe"]["encoder"]
        self._boxes, self._system = BOXES[encoder["boxes"]], encoder["system"]
        self._prompts = encoder.get("prompts")

    def of(self, steps: range) -> Iterator[Drawn]:
        """Yield the samples of some steps in the order of the plan.

        Raises:
            UserError: a picture or a file is gone.
        """
        places = [
            (step, pack, member, int(part), int(row))
            for step in steps
            for pack, packed in enumerate(self.plan.step(step).packs)
            for member, (part, row) in enumerate(zip(packed.parts, packed.rows, strict=True))
        ]
        wanted: dict[int, set[int]] = {}
        for *_, part, row in places:
            wanted.setdefault(part, set()).add(row)
        read = {part: self._read(part, sorted(rows)) for part, rows in wanted.items()}
        for step, pack, member, part, row in places:
            rows, texts = read[part]
            yield self._drawn(step, pack, member, rows[row], *from_bytes(texts[row]), part)

    def _read(self, part: int, rows: list[int]) -> tuple[dict[int, dict[str, Any]], Part]:
        place = self._catalog / str(self.plan.header["parts"][part])
        samples = self._samples.get((place.parent.name, place.stem))
        if samples is None or not place.exists():
            raise UserError(f"{place}: its samples are gone", fix="run `cuvee plan` again")
        found = pl.read_parquet(samples, columns=list(_COLUMNS))[rows].to_dicts()
        return dict(zip(rows, found, strict=True)), Part(place)

    def _drawn(
        self,
        step: int,
        pack: int,
        member: int,
        row: Mapping[str, Any],
        ids: NDArray[np.int32],
        mask: NDArray[np.bool_],
        part: int,
    ) -> Drawn:
        views = self._store.get_many(row["image_ids"])
        names = [
            f"{name}.{_ending(view)}" for name, view in zip(row["image_ids"], views, strict=True)
        ]
        source = Path(str(self.plan.header["parts"][part])).parent.name.removeprefix("source=")
        turns = conversation({**row, "source": source}, self._boxes, self._system, self._prompts)
        kept = ("split", "native_id", "file", "license")
        visual = self._policy.visual(row["widths"], row["heights"])
        unfolded, learnt = unfold(ids, mask, visual.tolist(), self._length)
        return Drawn(
            step=step,
            pack=pack,
            member=member,
            sample_id=row["sample_id"],
            messages=tuple(
                {"role": turn.role, "content": turn.content.replace(MARK, IMAGE)} for turn in turns
            ),
            pictures=tuple(zip(names, views, strict=True)),
            origin={"source": source} | {name: row[name] or "" for name in kept},
            ids=unfolded,
            mask=learnt,
        )


_ENDINGS = {b"\xff\xd8\xff": "jpg", b"\x89PN": "png", b"GIF": "gif", b"RIF": "webp", b"BM": "bmp"}


def _ending(data: memoryview) -> str:
    """Return the ending of a picture file by its first bytes."""
    start = bytes(data[:3])
    return _ENDINGS.get(start) or _ENDINGS.get(start[:2]) or "tif"
