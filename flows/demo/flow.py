"""The whole road on one folder: write the releases, then what the ordinary commands do, in their order."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from catalog import Catalog
from catalog.errors import CuveeError
from catalog.statistics import Statistics
from flows.demo.releases import RELEASES_VERSION, write_releases
from flows.demo.settings import FULL, Settings, write_files, write_run, write_tokenizer
from flows.evaluate import evaluate_flow
from flows.ingest import run_ingest
from flows.pages import report_page, statistics_page
from flows.plan import plan_flow
from flows.train import train_flow
from model.config import RunConfig
from model.scoreboard import scoreboard
from pipeline.jobs import jobs_of_file
from pipeline.mixture import Mixture
from pipeline.plan import Plan

SPLIT = "val"
EVERY = 60.0
"""Seconds between lines of a long stage where the output is no terminal."""


@dataclass(slots=True)
class Stage:
    """What a stage says when it is done."""

    says: str = ""
    redone: bool = True


@dataclass(slots=True)
class _Teller:
    """One line a stage; a bar while it works."""

    console: Console
    began: float = field(default_factory=monotonic)
    redone: int = 0
    _told: float = 0.0
    _bar: Progress | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        stage, began = Stage(), monotonic()
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        self._told = began
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bar:
            self._bar = bar
            bar.add_task(name, total=None, text="")
            yield stage
        self._bar = None
        self.redone += stage.redone
        time = f"{monotonic() - began:.0f} s" if stage.redone else "up to date"
        self.console.print(
            f"[bold]{name:<8}[/]{stage.says:<76}{time:>12}", highlight=False, soft_wrap=True
        )

    def at(self, done: float, total: float, text: str) -> None:
        """Show how far the current stage is."""
        assert self._bar is not None
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, text=text)
        if not self.console.is_terminal and monotonic() - self._told > EVERY:
            self._told = monotonic()
            self.console.print(f"  {done:,.0f} of {total:,.0f}  {text}", highlight=False)


def run_demo(folder: Path, console: Console, settings: Settings = FULL) -> Path:
    """Walk the road, doing only what is not done yet; return the report.

    Raises:
        UserError: scikit-learn is missing, or the folder holds a run with other settings.
    """
    tell = _Teller(console)
    folder.mkdir(parents=True, exist_ok=True)
    with tell.stage("data") as stage:
        _data(folder, settings, stage, tell)
    with tell.stage("ingest") as stage:
        _ingest(folder, stage, console)
    catalog = Catalog.open(folder / "catalog")
    with tell.stage("stats") as stage:
        _statistics(folder / "statistics.html", catalog, stage)
    with tell.stage("plan") as stage:
        plan = _plan(folder, stage)
    run = write_run(folder, settings, plan)
    with tell.stage("train") as stage:
        _train(run, stage, tell)
    with tell.stage("eval") as stage:
        scores = _evaluate(run.output, stage, tell)
    with tell.stage("report") as stage:
        page = _report(run.output, catalog, plan, stage)
    console.print(scoreboard(scores))
    took = f"{monotonic() - tell.began:.0f} s"
    console.print(f"{took}; {tell.redone} of 7 stages had work to do", highlight=False)
    console.print(f"report: {page.resolve()}", soft_wrap=True, highlight=False)
    return page


def _data(folder: Path, settings: Settings, stage: Stage, tell: _Teller) -> None:
    """Write the releases and their tokenizer whole, or leave those that are there."""
    data, wanted = (
        folder / "data",
        json.dumps(asdict(settings.size) | {"version": RELEASES_VERSION}),
    )
    mark = data / "size.json"
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        stage.redone = False
    else:
        staged = folder / ".data"
        shutil.rmtree(staged, ignore_errors=True)
        write_releases(staged, settings.size, tell.at)
        write_tokenizer(staged / "tokenizer", settings.size, settings.vocabulary)
        (staged / "size.json").write_text(wanted, encoding="utf-8")
        shutil.rmtree(data, ignore_errors=True)
        staged.rename(data)
    write_files(folder, settings)
    held = len(list((data / "vqav2").glob("*/*.jpg")))
    stage.says = f"six releases in official layouts; {held:,} canvases of scanned digits"


def _ingest(folder: Path, stage: Stage, console: Console) -> None:
    catalog, jobs = jobs_of_file(folder / "cuvee.yaml")
    before = Catalog.open(catalog).version if (catalog / "cuvee.json").exists() else -1
    if not run_ingest(catalog, jobs, console=console, brief=True):
        raise CuveeError(
            "a release could not be ingested\nFix: remove the folder `data`, run again"
        )
    opened = Catalog.open(catalog)
    stage.redone = opened.version != before
    counts = [pair for splits in opened.counts().values() for pair in splits.values()]
    records, refused = (sum(values) for values in zip(*counts, strict=True))
    shown = opened.samples().select(pl.col("image_ids").explode().drop_nulls().n_unique())
    pictures = shown.collect().item()
    stage.says = f"{records:,} records, {refused} refused, {pictures:,} distinct pictures"


def _plan(folder: Path, stage: Stage) -> Plan:
    catalog, mixture = folder / "catalog", Mixture.load(folder / "recipe.yaml")
    opened = Catalog.open(catalog)
    before = opened.files("plans") if (catalog / "plans").exists() else []
    # Where nothing is to be expected, the plain function behind the flow looks: it starts at once.
    plan = (plan_flow.fn if before else plan_flow)(catalog, mixture)
    stage.redone = plan.file not in before
    packing = plan.header["packing"]
    stage.says = (
        f"{plan.id[:8]}: {plan.steps} steps of {plan.packs_per_step} packs, "
        f"{packing['tokens']:,} tokens, packs {packing['occupancy']:.0%} full"
    )
    return plan


def _statistics(page: Path, catalog: Catalog, stage: Stage) -> None:
    stage.redone = _newer(catalog.files("samples"), page)
    if stage.redone:
        statistics_page(Statistics.of(catalog), page, catalog=catalog)
    stage.says = f"{page}"


@contextmanager
def _watched(file: Path, tell: _Teller) -> Iterator[None]:
    """Show the steps of a run as its processes write them."""
    over = Event()

    def watch() -> None:
        while not over.wait(0.5):
            # The last line may be half written: the last whole one stands before its line break.
            lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
            if lines:
                last = json.loads(lines[-1])
                step = int(last["step"]) + 1
                tell.at(step, step + int(last["steps_left"]), f"loss {last['loss']:.3f}")

    watcher = Thread(target=watch, daemon=True, name="demo-watch")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _train(config: RunConfig, stage: Stage, tell: _Teller) -> None:
    stage.redone = not (config.output / "model" / "cuvee.json").exists()

    if stage.redone:
        with _watched(config.output / "metrics.jsonl", tell):
            code = train_flow(config, None, Console(quiet=True))
        if code:
            raise CuveeError(f"training stopped with exit code {code}\nFix: run it again")
    lines = (config.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    samples, seconds = (sum(step[name] for step in steps) for name in ("samples", "seconds"))
    last = steps[-len(steps) // 20 :]
    loss = sum(step["loss"] for step in last) / len(last)
    stage.says = (
        f"{samples:,.0f} samples in {seconds:.0f} s, loss {steps[0]['loss']:.2f} -> {loss:.2f}"
    )


def _evaluate(run: Path, stage: Stage, tell: _Teller) -> dict[str, Any]:
    def progress(source: str, done: int, total: int) -> None:
        tell.at(done, total, source)

    there = (run / "eval" / SPLIT / "scores.json").exists()
    evaluation = (evaluate_flow.fn if there else evaluate_flow)(run, SPLIT, progress=progress)
    stage.redone = bool(evaluation.answered)
    questions = sum(result["questions"] for result in evaluation.scores["sources"].values())
    stage.says = f"{questions:,} questions on scans that training never saw"
    return evaluation.scores


def _report(run: Path, catalog: Catalog, plan: Plan, stage: Stage) -> Path:
    page = run / "report.html"
    stage.redone = _newer([run / "eval" / SPLIT / "scores.json"], page)
    if stage.redone:
        report_page(page, catalog=catalog, run=run, plan=plan, statistics=Statistics.of(catalog))
    stage.says = "scores, predictions, training, plan and data on one page"
    return page


def _newer(files: Sequence[Path], page: Path) -> bool:
    """Tell whether a page is missing or older than a file it was made from."""
    return not page.exists() or any(f.stat().st_mtime > page.stat().st_mtime for f in files)
