"""A suite: the benchmarks a run is judged by, as a file."""

from collections import Counter
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from model.benchmarks import benchmark_of
from pipeline.config import load_yaml
from pipeline.typed import Typed


class Asked(Typed):
    """One benchmark: a held-out split, and how it is asked."""

    source: str
    split: str
    limit: int | None = Field(default=None, ge=1)
    """At most so many questions, always the same ones."""
    suffix: str | None = None
    """A line of instruction after each question; default: the benchmark's usual one, "" for none."""
    blind: bool = False
    """Also answer with blanked pictures."""

    @property
    def instruction(self) -> str:
        return benchmark_of(self.source).suffix if self.suffix is None else self.suffix


class Suite(Typed):
    """A suite file."""

    benchmarks: tuple[Asked, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        counted = Counter((each.source, each.split) for each in self.benchmarks)
        if twice := [f"{source} {split}" for (source, split), n in counted.items() if n > 1]:
            raise ValueError(f"{', '.join(twice)} listed twice: each has one place for its results")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a suite.

        Raises:
            UserError: with file, line and field.
        """
        return load_yaml(path, cls)
