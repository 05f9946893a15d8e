"""What `cuvee stats` and `cuvee verify` print; neither starts a flow."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from catalog import Catalog
from catalog.errors import UserError
from catalog.images import verify
from catalog.repair import missing, take_out
from catalog.statistics import Statistics
from flows.pages import statistics_page
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.preflight import preflight, preview_tables
from pipeline.preview import preview
from pipeline.proof import count_table, counts_of

BAR = 30
"""Characters of the longest bar."""


def show_statistics(
    console: Console,
    catalog: Path | str,
    *,
    where: str | None = None,
    recipe: Path | None = None,
    plan: str | None = None,
    html: Path | None = None,
) -> None:
    """Print the statistics of a catalog and, where asked for, of a recipe or a plan, and a page."""
    if recipe is not None and plan is not None:
        raise UserError("a recipe and a plan", fix="ask for one of them: a plan holds its recipe")
    opened = Catalog.open(catalog)
    mixture = None if recipe is None else Mixture.load(recipe)
    drawn = None if mixture is None else preview(opened, mixture)
    planned = None if plan is None else Plan.open(catalog, plan)
    found = Statistics.of(opened, where)
    for table in tables(found, f"{catalog}, version {opened.version}"):
        console.print(table)
    if planned is not None:
        console.print(preflight(planned))
    if drawn is not None:
        console.print(preview_tables(drawn))
    if html is not None:
        statistics_page(found, html, catalog=opened, plan=planned or drawn)
        console.print(f"page: {html}", soft_wrap=True, highlight=False)


def tables(found: Statistics, title: str) -> Iterator[Table]:
    """Yield the tables of a catalog's statistics; those without a row are left out."""
    scripts = dict(found.scripts.group_by("source", maintain_order=True).agg("script").iter_rows())
    sources = found.sources.with_columns(
        script=pl.col("source").replace_strict({k: v[0] for k, v in scripts.items()}, default="-")
    )
    yield _table(
        title,
        sources,
        ("source", "splits", "samples", "pictures", "distinct", "shared", "turns", "script"),
    )
    if len(found.families) > 1:
        columns = ("family", "sources", "samples", "pictures", "distinct")
        yield _table("families", found.families, columns)
    for (encoder,), tokens in found.tokens.group_by("encoder", maintain_order=True):
        short = str(encoder)[:12]
        shown = tokens.with_columns(mean=pl.col("text") / pl.col("encoded"))
        columns = ("source", "encoded", "text", "learnt", "mean")
        yield _table(f"text tokens, encoder {short}", shown, columns)
        lengths = found.lengths.filter(pl.col("encoder") == encoder)
        yield from _bars("samples by their text tokens", lengths, "tokens", "samples")
    yield from _bars("distinct pictures by their longer side", found.sides, "pixels", "pictures")
    for name, frame in (("licences", found.licenses), ("refusals", found.refusals)):
        if len(frame):
            yield _table(name, frame, frame.columns)


def _table(title: str, frame: pl.DataFrame, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns:
        number = frame[name].dtype.is_numeric()
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    for row in frame.select(columns).iter_rows():
        table.add_row(*(_cell(value) for value in row))
    return table


def _bars(title: str, bins: pl.DataFrame, unit: str, count: str) -> Iterator[Table]:
    """Yield a histogram as bars, without its empty ends."""
    full = (bins[count] > 0).arg_true().to_list()
    if not full:
        return
    most = max(bins[count].to_list())
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in (unit, count):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for low, high, value in bins[full[0] : full[-1] + 1].select("from", "to", count).iter_rows():
        label = f"{low:,}-{high - 1:,}" if high < 2**31 - 1 else f"{low:,}-"
        table.add_row(label, f"{value:,}", "█" * round(BAR * value / most))
    yield table


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None else str(value)


def show_verification(console: Console, catalog: Path) -> int:
    """Hash every picture again; name the damaged ones and take them out of the catalog.

    Returns how many pictures and files are damaged, and pictures missing.
    """
    opened = Catalog.open(catalog)
    damaged, good = [], 0
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("hashing", total=None)
        for found in verify(opened.files("images")):
            progress.advance(bar)
            if found is None:
                good += 1
                continue
            damaged.append(found)
            name = f"{found.image_id} {found.file}, row {found.row}"
            name = name if found.image_id else f"{found.file}: cannot be read at all"
            console.print(f"[red]damaged[/] {name}", soft_wrap=True, highlight=False)
    take_out(catalog, damaged)
    opened = Catalog.open(catalog)
    gone = {source: missing(opened, source) for source in opened.sources()}
    for source, ids in gone.items():
        if ids:
            console.print(f"[red]missing[/] {len(ids):,} pictures of {source}", highlight=False)
    console.print(f"{good + len(damaged):,} pictures, {len(damaged):,} damaged", highlight=False)
    if damaged or any(gone.values()):
        console.print("`cuvee ingest` stores them again from the official files", highlight=False)
    return len(damaged) or sum(len(ids) for ids in gone.values())


def show_proof(console: Console, folder: Path) -> int:
    """Print found against official counts of every split; return how many do not match."""
    catalog = Catalog.open(folder)
    counts = counts_of(catalog)
    console.print(count_table(f"{folder}, version {catalog.version}", counts, {}))
    return sum(not count.matches for count in counts)
