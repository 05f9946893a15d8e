"""A recipe: which sources, in which shares, in which unit, under which budget."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rapidfuzz import process

from catalog import Catalog
from catalog.errors import UserError
from pipeline.config import load_yaml
from pipeline.encode import EncoderConfig
from pipeline.policy import ImagePolicy

Unit = Literal["samples", "images", "text_tokens", "visual_tokens", "all_tokens", "loss_tokens"]
UNITS: tuple[Unit, ...] = (
    "samples",
    "images",
    "text_tokens",
    "visual_tokens",
    "all_tokens",
    "loss_tokens",
)


class Share(BaseModel):
    """One entry of a recipe: a source, or all sources of a family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = None
    family: str | None = None
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Relative to the other entries, in the recipe's unit."""
    max_epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    where: str | None = None
    """SQL over the columns of `samples`, for example `split = 'train'`."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.source is None) == (self.family is None):
            raise ValueError("give either `source` or `family`")
        return self

    @property
    def name(self) -> str:
        return self.source or f"family:{self.family}"


class Budget(BaseModel):
    """How long the run is, in one unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of the entry that is used up first at the weights asked for."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.samples, self.tokens, self.epochs)) != 1:
            raise ValueError("give exactly one of `samples`, `tokens`, `epochs`")
        return self


class Packing(BaseModel):
    """How draws become rows of equal length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(ge=8)
    """Capacity of a pack: text and visual tokens."""
    tiles: int = Field(default=64, ge=0)
    """Largest number of picture tiles in a pack."""
    overlong: Literal["drop"] = "drop"
    """What happens to a sample longer than a pack: it is left out, and counted."""
    packs_per_step: int = Field(default=8, ge=1)
    window: int = Field(default=65_536, ge=1)
    """Draws packed together: order is kept beyond it."""


class Mixture(BaseModel):
    """A recipe file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seed: int = Field(default=0, ge=0)
    unit: Unit = "samples"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Shares are raised to 1 / temperature: above 1 evens them out."""
    budget: Budget
    sources: tuple[Share, ...] = Field(min_length=1)
    encoder: EncoderConfig
    image: ImagePolicy = ImagePolicy()
    packing: Packing

    @model_validator(mode="after")
    def _each_source_once(self) -> Self:
        names = Counter(share.name for share in self.sources)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{', '.join(twice)} listed twice: keep one entry and add the weights")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe.

        Raises:
            UserError: with file, line and field.
        """
        return load_yaml(path, cls)

    def shares(self) -> NDArray[np.float64]:
        """Return the share of each entry, in the unit, after temperature; they sum to 1."""
        weights = np.array([share.weight for share in self.sources])
        weights = (weights / weights.sum()) ** (1 / self.temperature)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def members(self, catalog: Catalog) -> list[list[str]]:
        """Return the catalog's sources behind each entry.

        Raises:
            UserError: an entry names what the catalog does not have, or two entries the same source.
        """
        pairs = catalog.samples().select("source", "family").unique().collect()
        families: dict[str, str] = dict(pairs.iter_rows())
        found = []
        for share in self.sources:
            if share.source is not None:
                names = [share.source] if share.source in families else []
            else:
                names = sorted(s for s, family in families.items() if family == share.family)
            if not names:
                known = sorted(families) if share.source else sorted(set(families.values()))
                wanted = share.source or share.family or ""
                nearest = process.extractOne(wanted, known)
                hint = f"did you mean {nearest[0]!r}? " if nearest else ""
                raise UserError(
                    f"{self.name}: the catalog has no {share.name}",
                    fix=f"{hint}it has {', '.join(known) or 'nothing'}",
                )
            found.append(names)
        twice = [n for n, c in Counter(n for names in found for n in names).items() if c > 1]
        if twice:
            raise UserError(
                f"{self.name}: {', '.join(twice)} stands in two entries",
                fix="name a source once, by itself or by its family",
            )
        return found

    def named(self, catalog: Catalog) -> list[str]:
        """Return all sources that the recipe uses."""
        return [name for names in self.members(catalog) for name in names]


def walk(seed: int, name: str, samples: int, draws: int) -> NDArray[np.int64]:
    """Return which sample an entry draws first, second, ...: a seeded permutation an epoch.

    The seed hangs on the entry's name, so another entry's presence reorders nothing.
    """
    epochs = []
    for epoch in range(-(-draws // samples) if samples else 0):
        digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        epochs.append(generator.permutation(samples))
    return np.concatenate([np.zeros(0, np.int64), *epochs])[:draws].astype(np.int64)


def draws_for(units: NDArray[np.float64], target: float, limit: int) -> int:
    """Return how many of these consecutive draws come nearest to `target` units, at most `limit`.

    >>> draws_for(np.array([2.0, 2.0, 2.0]), 3.5, 3)
    2
    """
    middle = np.cumsum(units) - units / 2
    return min(int(np.searchsorted(middle, target, side="right")), limit)


def merge(
    units: list[NDArray[np.float64]],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Interleave the entries' draws so that every prefix holds their shares.

    The middle of draw k, measured in its entry's own units, stands at (sum before k + half of k) /
    total: with equal units that is (k + 1/2) / n. Returns the entry and its draw number at each place.
    """
    keys, entry, number = [], [], []
    for place, values in enumerate(units):
        total = values.sum()
        count = len(values)
        # An entry may hold samples of no units (text, when pictures are counted): spread them.
        middle = np.cumsum(values) - values / 2
        keys.append(middle / total if total else (np.arange(count) + 0.5) / max(count, 1))
        entry.append(np.full(count, place, np.int32))
        number.append(np.arange(count, dtype=np.int64))
    order = np.argsort(np.concatenate(keys), kind="stable")
    return np.concatenate(entry)[order], np.concatenate(number)[order]
