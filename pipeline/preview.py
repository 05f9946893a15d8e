"""What a recipe would make of a catalog: the numbers of its plan, without packing or writing anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from catalog import Catalog
from catalog.errors import UserError
from pipeline.draws import draw
from pipeline.encode import Encoder
from pipeline.merge import found_merged
from pipeline.mixture import Mixture
from pipeline.planner import Inputs
from pipeline.summary import entries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The mixture of a recipe, drawn but not packed."""

    recipe: dict[str, Any]
    entries: list[dict[str, Any]]
    """As in a plan's header."""
    tokens: int
    loss_tokens: int
    tiles: int
    packs: int
    """What no packing can be below."""
    steps: int


def preview(catalog: Catalog, mixture: Mixture) -> Preview:
    """Return what a plan of this recipe would hold.

    Raises:
        UserError: the recipe cannot be met, or some of its samples are not encoded yet.
    """
    inputs = _encoded(catalog, mixture)
    pools = inputs.pools()
    draws, shares = draw(mixture, pools)
    entries = entries_of(mixture, pools, draws, shares)
    tokens, loss = (
        sum(entry["amounts"][unit] for entry in entries) for unit in ("all_tokens", "loss_tokens")
    )
    packing = mixture.packing
    tiles = sum(
        int(pool.tiles[draws.sample[draws.entry == place]].sum(dtype=np.int64))
        for place, pool in enumerate(pools)
    )
    packs = max(-(-tokens // packing.tokens), -(-tiles // packing.tiles) if packing.tiles else 0)
    return Preview(
        recipe=inputs.recipe,
        entries=entries,
        tokens=tokens,
        loss_tokens=loss,
        tiles=tiles,
        packs=packs,
        steps=-(-packs // packing.packs_per_step),
    )


def _encoded(catalog: Catalog, mixture: Mixture) -> Inputs:
    """Return the files behind a recipe; all of them must be there, for looking writes nothing.

    Raises:
        UserError: some samples are not encoded, or not merged; says how many.
    """
    encoder = Encoder(mixture.encoder).fingerprint
    encoded, members = catalog.encoded(encoder), mixture.members(catalog)
    counts = dict(catalog.samples().group_by("source").len().collect().iter_rows())
    files: dict[str, list[Path]] = {}
    missing = 0
    for share, names in zip(mixture.sources, members, strict=True):
        for name in names:
            base = encoded.get(name, [])
            files[name] = base
            lacks = counts[name] - sum(int(pq.read_metadata(file).num_rows) for file in base)
            if share.turns_per_image > 1 and not lacks:
                files[name] = found_merged(catalog, mixture, share, name, base)
                lacks = 0 if files[name] else counts[name]
            missing += lacks
    if missing:
        raise UserError(
            f"{mixture.name}: {missing:,} samples are not encoded by its tokenizer yet",
            fix="`cuvee plan` with this recipe encodes them, and shows these numbers too",
        )
    return Inputs(
        catalog=catalog,
        mixture=mixture,
        encoder=encoder,
        files=tuple(file for name in sorted(files) for file in files[name]),
    )
