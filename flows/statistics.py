"""What `cuvee stats` and `cuvee verify` print; neither starts a flow."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from catalog import Catalog
from catalog.statistics import Statistics
from flows.pages import statistics_page
from pipeline.plan import Plan
from pipeline.preflight import preflight


def show_statistics(
    console: Console,
    catalog: Path,
    *,
    where: str | None = None,
    plan: str | None = None,
    html: Path | None = None,
) -> None:
    """Print the statistics of a catalog and, where asked for, of a plan; write them as a page."""
    opened = Catalog.open(catalog)
    planned = None if plan is None else Plan.open(catalog, plan)
    found = Statistics.of(opened, where)
    table = Table(title=f"{catalog}, version {opened.version}", title_justify="left")
    for name in ("source", "family", "splits"):
        table.add_column(name)
    numbers = ("samples", "pictures", "distinct", "shared", "turns", "characters", "regions")
    for name in numbers:
        table.add_column(name, justify="right")
    for row in found.sources.iter_rows(named=True):
        table.add_row(
            row["source"],
            row["family"],
            row["splits"],
            *(_number(row[name]) for name in numbers),
        )
    console.print(table)
    most = max(found.sides["pictures"].to_list(), default=0)
    if most:
        sides = Table(title="distinct pictures by their longer side", title_justify="left")
        for name in ("pixels", "pictures", ""):
            sides.add_column(name, justify="left" if not name else "right")
        for low, high, count in found.sides.iter_rows():
            label = f"{low}-{high - 1}" if high < 2**31 - 1 else f"{low}-"
            sides.add_row(label, f"{count:,}", "█" * round(40 * count / most))
        console.print(sides)
    for title, frame in (("licences", found.licenses), ("refusals", found.refusals)):
        if len(frame):
            rows = Table(title=title, title_justify="left")
            for name in frame.columns:
                rows.add_column(name)
            for values in frame.iter_rows():
                rows.add_row(*(_number(value) for value in values))
            console.print(rows)
    if planned is not None:
        console.print(preflight(planned))
    if html is not None:
        statistics_page(found, html, catalog=opened, plan=planned)
        console.print(f"page: {html}", soft_wrap=True, highlight=False)


def _number(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None else str(value)


def show_verification(console: Console, catalog: Path) -> int:
    """Hash every picture again and print the damaged ones; return how many there are."""
    store = Catalog.open(catalog).image_store()
    damaged = 0
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("hashing", total=len(store))
        for found in store.verify():
            progress.advance(bar)
            if found is not None:
                damaged += 1
                place = f"{found.file}, row {found.row}"
                console.print(f"[red]damaged[/] {found.image_id} {place}", soft_wrap=True)
    console.print(f"{len(store):,} pictures, {damaged:,} damaged", highlight=False)
    return damaged
