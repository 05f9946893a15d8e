"""The demo: its releases are official in layout and honest in content, and its road ends in a report."""

import hashlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from catalog import Catalog
from catalog.record import Refusal
from flows.demo.canvas import Canvas, Split, scans_of, scattered, written
from flows.demo.flow import run_demo
from flows.demo.questions import conversation, expressions, visual
from flows.demo.releases import WRITERS, Size, write_releases
from flows.demo.settings import Settings
from flows.demo.text import page
from pipeline.sources import find

pytest.importorskip("sklearn", reason="the demo's scans come with scikit-learn")
SMALL = Size(canvases=12, lines=6, held_out=4)
STAGES = ["data", "ingest", "stats", "plan", "train", "eval", "report"]
TINY = Settings(size=SMALL, samples=60, packs_per_step=2, checkpoint_every=2)


def hashes(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def visible(folder: Path) -> dict[str, str]:
    """Return the hashes of what is no cache and no lock."""
    return {name: value for name, value in hashes(folder).items() if "/." not in f"/{name}"}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases") / "data"
    write_releases(folder, SMALL, lambda done, total, name: None)
    return folder


def shown(split: Split, count: int) -> set[int]:
    """Return the scans on pictures of every kind."""
    slips = [
        slip
        for number in range(count)
        for canvas in (scattered(0, split, number), written(0, split, number))
        for slip in canvas.slips
    ]
    slips += [page(0, split, number).slip for number in range(count)]
    return {slip.scan for slip in slips}


def test_held_out_pictures_show_scans_that_training_never_saw() -> None:
    train, held_out = shown("train", 200), shown("val", 200)
    assert len(train) > 500
    assert len(held_out) > 200
    assert not train & held_out
    assert train <= set(scans_of("train"))
    assert set(scans_of("train")).isdisjoint(scans_of("val"))
    assert len(scans_of("train")) + len(scans_of("val")) == 1797


@pytest.mark.parametrize("name", WRITERS)
def test_every_release_is_read_without_a_refusal(releases: Path, name: str) -> None:
    source = find(name)
    splits = source.found(releases / name)
    assert splits
    for split in splits:
        items = list(source.read(releases / name, split))
        assert items
        assert not [item for item in items if isinstance(item, Refusal)]


def test_the_same_seed_writes_the_same_bytes(releases: Path, tmp_path: Path) -> None:
    write_releases(tmp_path / "again", SMALL, lambda done, total, name: None)
    assert hashes(tmp_path / "again") == hashes(releases)


def test_what_is_asked_is_true_of_the_canvas() -> None:
    for number in range(100):
        canvas: Canvas = scattered(0, "train", number)
        at = {slip.place: slip for slip in canvas.slips}
        for item in (*visual(canvas), *conversation(canvas)):
            words = item.question.rstrip("?")
            if item.kind == "which":
                assert item.answer == str(at[words.partition("at the ")[2]].digit)
            elif item.kind == "where is the":
                assert [str(at[item.answer].digit)] == words.split()[-1:]
                assert canvas.text.count(words[-1]) == 1
            elif item.kind == "how many":
                assert int(item.answer) == len(canvas.slips)
        for expression in expressions(canvas):
            for sentence in expression.sentences:
                meant = [
                    slip
                    for slip in canvas.slips
                    if sentence in (f"the {slip.digit}", f"the {slip.digit} at the {slip.place}")
                ]
                assert meant == [expression.slip]


def test_slips_lie_on_the_canvas_and_apart() -> None:
    for number in range(100):
        canvas = scattered(0, "val", number)
        covered = 0
        for x0, y0, x1, y1 in (slip.box for slip in canvas.slips):
            assert 0 <= x0 < x1 <= canvas.pixels.shape[1]
            assert 0 <= y0 < y1 <= canvas.pixels.shape[0]
            assert canvas.pixels[y0:y1, x0:x1].max() > 200
            covered += (x1 - x0) * (y1 - y0)
        assert (canvas.pixels > 200).sum() <= covered


def test_the_road_ends_in_a_report_and_a_second_walk_redoes_nothing(tmp_path: Path) -> None:
    def walk() -> str:
        console = Console(file=io.StringIO(), width=100)
        assert run_demo(tmp_path / "demo", console, TINY).exists()
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert isinstance(text, str)
        return text

    first = walk()
    assert first.count("\n") <= 45
    assert max(len(line) for line in first.splitlines() if "demo" not in line) <= 100
    assert "7 of 7 stages" in first
    assert first.rstrip().endswith("report.html")
    assert set(Catalog.open(tmp_path / "demo" / "catalog").sources()) == set(WRITERS)
    before = visible(tmp_path / "demo")
    second = walk()
    stages = [line for line in second.splitlines() if line.endswith("up to date")]
    assert [line.split()[0] for line in stages] == STAGES, second
    assert "0 of 7 stages" in second
    assert visible(tmp_path / "demo") == before
