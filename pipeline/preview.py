"""What a recipe would make of a catalog: the numbers of its plan, without packing or writing anything."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from catalog import Catalog
from catalog.errors import UserError
from pipeline.draws import draw
from pipeline.encode import Encoder
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
    visual = sum(entry["amounts"]["visual_tokens"] for entry in entries)
    packing = mixture.packing
    tiles = visual // mixture.image.tokens
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
    """Return the files behind a recipe; all of them must be there, for looking writes nothing."""
    encoder = Encoder(mixture.encoder).fingerprint
    found = catalog.encoded(encoder)
    files = [file for name in mixture.named(catalog) for file in found.get(name, [])]
    have = sum(int(pq.read_metadata(file).num_rows) for file in files)
    named = mixture.named(catalog)
    samples = catalog.samples().filter(pl.col("source").is_in(named))
    want = int(samples.select(pl.len()).collect().item())
    if have < want:
        raise UserError(
            f"{mixture.name}: {want - have:,} of {want:,} samples are not encoded by its tokenizer yet",
            fix="`cuvee plan` with this recipe encodes them, and shows these numbers too",
        )
    order = {file: place for place, file in enumerate(catalog.encoding_parts(encoder))}
    return Inputs(
        catalog=catalog,
        mixture=mixture,
        encoder=encoder,
        files=tuple(sorted(files, key=order.__getitem__)),
    )
