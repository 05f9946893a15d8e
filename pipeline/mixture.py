"""A recipe: which sources, in which shares, in which unit, under which budget."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator, model_validator
from rapidfuzz import process

from catalog import Catalog
from catalog.errors import UserError
from pipeline.config import load_yaml, place_of
from pipeline.encode import EncoderConfig, checked_wordings
from pipeline.packing import ATTENTION
from pipeline.policy import ImagePolicy
from pipeline.typed import Typed

Unit = Literal["samples", "images", "text_tokens", "visual_tokens", "all_tokens", "loss_tokens"]
UNITS: tuple[Unit, ...] = (
    "samples",
    "images",
    "text_tokens",
    "visual_tokens",
    "all_tokens",
    "loss_tokens",
)
Licenses = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Share(Typed):
    """One entry of a recipe: a source, a group of sources, or all sources of a family."""

    source: str | None = None
    family: str | None = None
    group: str | None = None
    """Name of a group; what it holds is drawn alike, so that larger sources are drawn more often."""
    sources: tuple[str, ...] = ()
    """The sources of the group."""
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Relative to the other entries, in the recipe's unit; default: as much as the entry holds."""
    max_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How often a sample may be drawn at most; default: the budget's epochs, or 1."""
    where: str | None = None
    """SQL over the columns of `samples`, for example `split = 'train'`."""
    licenses: Licenses | None = None
    """Licences that this entry's samples may have, by name or pattern, beside the recipe's."""
    turns_per_image: int = Field(default=1, ge=1)
    """Up to so many samples on the same picture become one conversation, the picture shown once."""
    prompts: tuple[str, ...] = ()
    """Instructions for its samples that show a picture and ask nothing; go to the encoder's `prompts`."""

    @field_validator("prompts")
    @classmethod
    def _say_something(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        return checked_wordings(prompts) if prompts else prompts

    @model_validator(mode="after")
    def _one_of_all(self) -> Self:
        if sum(name is not None for name in (self.source, self.family, self.group)) != 1:
            raise ValueError("give either `source` or `family`, or a `group` with `sources`")
        if (self.group is None) == bool(self.sources):
            raise ValueError("`group` and `sources` belong together")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("a source is listed twice in `sources`")
        if self.prompts and self.family is not None:
            raise ValueError("`prompts` of a family: give its sources, or a task's in `encoder`")
        return self

    @property
    def name(self) -> str:
        return self.source or self.group or f"family:{self.family}"


class Budget(Typed):
    """How long the run is, in one unit."""

    samples: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of the entry that is used up first at the weights asked for."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.samples, self.tokens, self.epochs)) != 1:
            raise ValueError("give exactly one of `samples`, `tokens`, `epochs`")
        return self


class Packing(Typed):
    """How draws become rows of equal length."""

    tokens: int = Field(ge=8)
    """Capacity of a pack: text and visual tokens."""
    tiles: int = Field(default=64, ge=0)
    """Largest number of picture tiles in a pack."""
    overlong: Literal["drop", "truncate"] = "drop"
    """A sample longer than a pack is left out, or loses text from its end, never a picture."""
    packs_per_step: int = Field(default=8, ge=1)
    window: int = Field(default=65_536, ge=1)
    """Draws packed together: order is kept beyond it."""
    balanced_ranks: int = Field(default=8, ge=1)
    """Ranks among which the work of every step is even; also for half as many, and so on."""
    attention: int = Field(default=ATTENTION, ge=1)
    """Length in tokens at which attention costs as much as all else: about 12 times the model's width.
    `python -m tests.benchmarks.cost` measures it for a model and a machine."""


Lacking = tuple[str, Share, tuple[int | str, ...]]
"""A name that the catalog does not have, the entry that has it, and the field there."""


class Mixture(Typed):
    """A recipe file."""

    name: str
    seed: int = Field(default=0, ge=0)
    unit: Unit = "samples"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Shares are raised to 1 / temperature: above 1 evens them out."""
    shuffle: Literal["global", "block"] = "global"
    """`block` reads few stretches of files at a time, for spinning disks and object stores."""
    budget: Budget
    sources: tuple[Share, ...] = Field(min_length=1)
    licenses: Licenses | None = None
    """Licences that samples may have, by name or pattern such as `CC BY*`; default: any, or none."""
    encoder: EncoderConfig
    image: ImagePolicy = ImagePolicy()
    packing: Packing
    _file: Path | None = PrivateAttr(default=None)
    """Where it was read from, for messages."""

    @model_validator(mode="after")
    def _weights_for_all_or_none(self) -> Self:
        weighed = [share.weight is not None for share in self.sources]
        if any(weighed) and not all(weighed):
            missing = ", ".join(s.name for s in self.sources if s.weight is None)
            raise ValueError(f"{missing} has no weight: give one to every entry, or to none")
        return self

    @model_validator(mode="after")
    def _each_source_once(self) -> Self:
        names = Counter(share.name for share in self.sources)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{', '.join(twice)} listed twice: keep one entry and add the weights")
        return self

    @model_validator(mode="after")
    def _prompts_go_to_the_encoder(self) -> Self:
        told = {
            name: share.prompts
            for share in self.sources
            if share.prompts
            for name in (share.sources or (share.source or "",))
        }
        if differing := [n for n in told if self.encoder.prompts.get(n, told[n]) != told[n]]:
            raise ValueError(f"{differing[0]} has other prompts in `encoder`: give them once")
        # Of a validated copy: prompts are checked where they are used.
        values = self.encoder.model_dump() | {"prompts": self.encoder.prompts | told}
        object.__setattr__(self, "encoder", EncoderConfig.model_validate(values))
        return self

    @classmethod
    def load(cls, path: Path, *, tokenizer: Path | None = None) -> Self:
        """Read a recipe; a `tokenizer` given here takes the place of the recipe's.

        Raises:
            UserError: with file, line and field.
        """
        mixture = load_yaml(path, cls)
        mixture._file = path
        if tokenizer is None:
            return mixture
        encoder = mixture.encoder.model_copy(update={"tokenizer": tokenizer})
        return mixture.model_copy(update={"encoder": encoder})

    def at(self, share: Share, *field: int | str) -> str:
        """Return where an entry stands, as messages name it: file, line and field, or the recipe."""
        if self._file is None:
            return self.name
        return place_of(self._file, "sources", self.sources.index(share), *field)

    def recorded(self) -> dict[str, Any]:
        """Return the recipe as a plan's header keeps it: the tokenizer is there by its fingerprint."""
        return self.model_dump(mode="json", exclude={"encoder": {"tokenizer"}})

    def shares(self, held: Sequence[int]) -> NDArray[np.float64]:
        """Return the share of each entry, in the unit, after temperature; they sum to 1.

        `held` is what the entries hold in the unit: the weights where the recipe gives none.
        """
        given = [share.weight for share in self.sources]
        weights = np.array([h if w is None else w for w, h in zip(given, held, strict=True)])
        weights = (weights / weights.sum()) ** (1 / self.temperature)
        # Powers differ in the last digits between processors; plans must not.
        shares: NDArray[np.float64] = np.round(weights / weights.sum(), 12)
        return shares

    def caps(self) -> NDArray[np.float64]:
        """Return how many epochs each entry may be drawn."""
        default = self.budget.epochs or 1.0
        given = [default if s.max_epochs is None else s.max_epochs for s in self.sources]
        caps: NDArray[np.float64] = np.minimum(given, self.budget.epochs or np.inf)
        return caps

    def members(self, catalog: Catalog) -> list[list[str]]:
        """Return the catalog's sources behind each entry.

        Raises:
            UserError: an entry names what the catalog does not have, or two entries the same source.
        """
        families = catalog.families()
        found: list[list[str]] = []
        missing: list[Lacking] = []
        for share in self.sources:
            if share.family is not None:
                found.append(sorted(s for s, family in families.items() if family == share.family))
                if not found[-1]:
                    missing.append((share.name, share, ("family",)))
                continue
            found.append([*share.sources] if share.source is None else [share.source])
            for number, name in enumerate(found[-1]):
                if name not in families:
                    field = ("source",) if share.source is not None else ("sources", number)
                    missing.append((name, share, field))
        if missing:
            raise self._lacking(missing, families)
        holders: dict[str, list[Share]] = {}
        for share, names in zip(self.sources, found, strict=True):
            for name in names:
                holders.setdefault(name, []).append(share)
        if twice := {name: shares for name, shares in holders.items() if len(shares) > 1}:
            last = next(iter(twice.values()))[-1]
            raise UserError(
                f"{self.at(last)}: {', '.join(twice)} stands in two entries",
                fix="name a source once, by itself or by its family",
            )
        return found

    def _lacking(self, missing: list[Lacking], families: dict[str, str]) -> UserError:
        """Return what explains, with numbers, that the catalog lacks sources of the recipe."""
        known = sorted({*families, *(f"family:{family}" for family in families.values())})
        hints = [
            f"did you mean {near[0].removeprefix('family:')!r} instead of "
            f"{name.removeprefix('family:')!r}? "
            for name, _, _ in missing
            if (near := process.extractOne(name, known, score_cutoff=70))
        ]
        named = sum(len(share.sources) or 1 for share in self.sources)
        weight = sum(share.weight or 0 for share in {share for _, share, _ in missing})
        total = sum(share.weight or 0 for share in self.sources)
        part = f", in entries of {weight / total:.1%} of the weight" if total else ""
        first, share, field = missing[0]
        return UserError(
            f"{self.at(share, *field)}: the catalog has no {first}"
            if len(missing) == 1
            else f"{self.at(share, *field)}: the catalog lacks {len(missing)} of {named} "
            f"sources{part}: {', '.join(name for name, _, _ in missing)}",
            fix=f"{''.join(hints)}it has {', '.join(sorted(families)) or 'nothing'}; "
            "`cuvee ingest` the others, or take them out of the recipe",
        )

    def named(self, catalog: Catalog) -> list[str]:
        """Return all sources that the recipe uses."""
        return [name for names in self.members(catalog) for name in names]
