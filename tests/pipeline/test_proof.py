"""Found counts stand beside the official ones, and a difference is marked."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from catalog import Catalog
from catalog.statistics import refused
from flows.statistics import show_proof
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.proof import count_table, counts_of
from pipeline.sources import SOURCES
from tests.official import write_alpaca, write_vqav2


@pytest.mark.parametrize(
    ("stated", "verdict"), [(4, "all found"), (5, "MISMATCH: 1 fewer"), (3, "MISMATCH: 1 more")]
)
def test_found_is_compared_with_official(
    stated: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tuple(
        replace(s, official={"train": stated}) if s.name == "alpaca" else s for s in SOURCES
    )
    monkeypatch.setattr("pipeline.proof.SOURCES", changed)
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca")), tmp_path / "catalog")
    (count,) = counts_of(Catalog.open(tmp_path / "catalog"))
    assert (count.found, count.verdict) == (4, verdict)
    console = Console(record=True, width=160)
    assert show_proof(console, tmp_path / "catalog") == (stated != 4)
    assert verdict in console.export_text()


def test_refused_records_count_as_found_and_the_table_marks_what_is_missing(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    next((root / "train2014").iterdir()).unlink()
    ingest(Job(source="vqav2", root=root, name="mine"), tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    assert [count.official for count in counts_of(catalog)] == [None], "no release is called mine"
    (row,) = refused(catalog).rows()
    assert row[:3] == ("mine", "missing_file", 2)
    assert row[3].endswith("is not there")
    (count,) = counts_of(catalog, {"mine": "vqav2"})
    assert (count.records, count.refused, count.official) == (4, 2, 443_757)
    console = Console(record=True, width=160)
    console.print(count_table("what is there", [count], {"mine": "ingested"}))
    assert "MISMATCH: 443,751 fewer" in console.export_text()
