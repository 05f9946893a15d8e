"""Building chunks: pictures are cut into row groups alike, and processes give what one process gives."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import catalog.parts
import pipeline.new_pictures
from catalog import Catalog
from catalog.errors import DataError
from catalog.parts import value_offsets, write_part
from catalog.schema import image_table
from flows.ingest import run_ingest
from flows.processes import processes
from pipeline.build import build
from pipeline.checks import Picture
from pipeline.cut import CHUNK_RECORDS, cut
from pipeline.jobs import Job
from pipeline.new_pictures import NewPictures
from tests.official import write_alpaca, write_vqav2

MEASURED = Picture(format="JPEG", width=4, height=3, orientation=1)


def test_pictures_kept_one_by_one_become_the_part_of_their_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (catalog.parts, pipeline.new_pictures):
        monkeypatch.setattr(module, "ROW_GROUP_BYTES", 1000)
        monkeypatch.setattr(module, "ROW_GROUP_ROWS", 7)
    generator = np.random.default_rng(0)
    sizes = [*generator.integers(1, 400, 40).tolist(), 1000, 2500, *[1] * 20]
    pictures = {f"{n:064x}": (MEASURED, generator.bytes(size)) for n, size in enumerate(sizes)}
    write_part(tmp_path / "whole", image_table(pictures), binary="data")
    with NewPictures(tmp_path / "new") as new:
        for image_id, (measured, data) in pictures.items():
            new.free[: len(data)] = data
            new.keep(image_id, measured, len(data))
        new.finish(tmp_path / "parts")
    groups = [pq.ParquetFile(tmp_path / name).metadata for name in ("whole", "parts")]
    rows = [[meta.row_group(n).num_rows for n in range(meta.num_row_groups)] for meta in groups]
    assert rows[0] == rows[1]
    assert pq.read_table(tmp_path / "parts").equals(pq.read_table(tmp_path / "whole"))
    starts, lengths = value_offsets(tmp_path / "parts")
    file = (tmp_path / "parts").read_bytes()
    for start, length, (_, data) in zip(starts, lengths, pictures.values(), strict=True):
        assert file[start : start + length] == data


def test_pictures_that_are_not_finished_leave_no_file(tmp_path: Path) -> None:
    with NewPictures(tmp_path / "new") as new:
        new.free[:3] = b"abc"
        new.keep("0" * 64, MEASURED, 3)
        assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    assert list(tmp_path.iterdir()) == []


def test_processes_give_what_one_process_gives_in_the_order_of_the_files(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2", questions=10)
    (root / "train2014" / "COCO_train2014_000000000003.jpg").unlink()
    job = Job(source="vqav2", root=root)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        Catalog.create(folder)
    alone = [build(chunk, ours) for chunk in cut(job, ours, 3)]
    with processes(2) as pool:
        together = list(pool.built(cut(job, theirs, 3), theirs))
        [one] = pool.built(cut(job, theirs), theirs)
    assert [part.key for part in together] == [part.key for part in alone]
    assert [part.samples.name for part in together] == [part.samples.name for part in alone]
    assert sum(part.refused for part in together) == one.refused == 2


def test_a_file_that_breaks_behind_its_first_chunks_ends_the_processes(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2", questions=10)
    Catalog.create(tmp_path / "catalog")
    chunks = cut(Job(source="vqav2", root=root), tmp_path / "catalog", 2)

    def broken() -> object:
        yield next(chunks)
        yield next(chunks)
        raise DataError("cut off", file=root, fix="download it again")

    with processes(1) as pool, pytest.raises(DataError, match="cut off"):
        list(pool.built(broken(), tmp_path / "catalog"))  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", ["thread", "process", "dask", "ray"])
def test_the_local_runner_gives_what_prefects_gives(runner: str, tmp_path: Path) -> None:
    if runner in ("dask", "ray"):
        pytest.importorskip(f"prefect_{runner}", reason=f"needs pip install 'cuvee[{runner}]'")
    jobs = [
        Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca", 2 * CHUNK_RECORDS + 1)),
        Job(source="vqav2", root=write_vqav2(tmp_path / "vqav2", questions=10)),
    ]
    versions = []
    for name in ("local", runner):
        folder, console = tmp_path / name, Console(record=True, width=160)
        assert run_ingest(folder, jobs, runner=name, workers=2, console=console)
        assert "ingested" in console.export_text()
        store = Catalog.open(folder)
        versions.append((store.samples().sort("sample_id").collect(), store.counts()))
    assert versions[0][1] == versions[1][1]
    assert versions[0][0].equals(versions[1][0])
