"""Count proof: what a catalog holds of each split, against what the release is stated to hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table

from catalog import Catalog
from pipeline.sources import SOURCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One split in a catalog."""

    source: str
    split: str
    records: int
    refused: int
    official: int | None
    """None: the release states no number for this split."""

    @property
    def found(self) -> int:
        """Items seen in the official files, taken or refused."""
        return self.records + self.refused

    @property
    def matches(self) -> bool:
        """Whether every official item was found, or none are stated."""
        return self.official is None or self.found == self.official

    @property
    def verdict(self) -> str:
        """The comparison in words.

        >>> Count(source="s", split="t", records=7, refused=1, official=10).verdict
        'MISMATCH: 2 fewer'
        """
        if self.official is None:
            return "no official number"
        if self.matches:
            return "all found" if not self.refused else f"all found, {self.refused:,} refused"
        missing = self.official - self.found
        return f"MISMATCH: {abs(missing):,} {'fewer' if missing > 0 else 'more'}"


def counts_of(catalog: Catalog, readers: Mapping[str, str] | None = None) -> list[Count]:
    """Return the counts of all splits in a catalog.

    Args:
        readers: name in the catalog -> source, for jobs that have a name of their own.
    """
    stated = {source.name: source.official for source in SOURCES}
    return [
        Count(
            source=name,
            split=split,
            records=records,
            refused=refused,
            official=stated.get((readers or {}).get(name, name), {}).get(split),
        )
        for name, splits in sorted(catalog.counts().items())
        for split, (records, refused) in sorted(splits.items())
    ]


def count_table(title: str, counts: Iterable[Count], states: Mapping[str, str]) -> Table:
    """Return the table of found against official; `states` says what was done with each source."""
    table = Table(title=title, title_justify="left")
    for name in ("source", "split"):
        table.add_column(name)
    for name in ("records", "refused", "official"):
        table.add_column(name, justify="right")
    table.add_column("found against official")
    if states:
        table.add_column("")
    for count in counts:
        stated = "-" if count.official is None else f"{count.official:,}"
        verdict = count.verdict if count.matches else f"[red]{count.verdict}[/]"
        cells = [
            count.source,
            count.split,
            f"{count.records:,}",
            f"{count.refused:,}",
            stated,
            verdict,
        ]
        table.add_row(*cells, *([states[count.source]] if states else []))
    return table
