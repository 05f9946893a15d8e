"""Damage is named, taken out, and repaired from the official files; nothing else is done again."""

from pathlib import Path

import pytest
from rich.console import Console

from catalog import Catalog
from catalog.errors import CuveeError
from catalog.images import ImageStore
from flows.statistics import show_verification
from pipeline.ingest import ingest, survey
from pipeline.jobs import Job
from tests.official import write_alpaca, write_vqav2


def jobs(folder: Path) -> list[Job]:
    return [
        Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=12)),
        Job(source="alpaca", root=write_alpaca(folder / "alpaca")),
    ]


def verified(catalog: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    damaged = show_verification(Console(width=200), catalog)
    return damaged, capsys.readouterr().out.strip()


def test_a_flipped_byte_is_named_and_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "catalog"
    vqav2, alpaca = jobs(tmp_path)
    for job in (vqav2, alpaca):
        ingest(job, folder)
    before = Catalog.open(folder)
    pictures = {i: bytes(before.image_bytes(i)) for _, i in before.picture_files("vqav2")}
    hurt = sorted(pictures)[2]
    [file] = before.files("images")
    data = bytearray(file.read_bytes())
    data[data.find(pictures[hurt]) + 20] ^= 1
    file.write_bytes(data)

    damaged, said = verified(folder, capsys)
    assert damaged == 1
    assert f"damaged {hurt}" in said
    assert "6 pictures, 1 damaged" in said
    assert verified(folder, capsys)[1].startswith("missing 1 pictures of vqav2")
    assert hurt not in Catalog.open(folder).image_store()
    assert [survey(job, folder).up_to_date for job in (vqav2, alpaca)] == [False, True]
    assert f"such as {hurt}" in survey(vqav2, folder).reasons[0]

    for job in (vqav2, alpaca):
        ingest(job, folder)
    after = Catalog.open(folder)
    assert after.version == before.version, "no sample changed"
    assert {i: bytes(after.image_bytes(i)) for i in pictures} == pictures
    assert len(after.image_store()) == len(pictures)
    assert verified(folder, capsys) == (0, "6 pictures, 0 damaged")
    assert all(survey(job, folder).up_to_date for job in (vqav2, alpaca))


def test_a_file_of_pictures_that_cannot_be_read_is_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "catalog"
    job, _ = jobs(tmp_path)
    ingest(job, folder)
    [file] = Catalog.open(folder).files("images")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CuveeError, match="cuvee verify"):
        Catalog.open(folder).image_store()
    damaged, said = verified(folder, capsys)
    assert damaged == 1
    assert "cannot be read at all" in said
    assert "missing 6 pictures of vqav2" in said
    ingest(job, folder)
    assert verified(folder, capsys) == (0, "6 pictures, 0 damaged")
    assert len(ImageStore(Catalog.open(folder).files("images"))) == 6


def test_a_picture_whose_official_file_is_gone_too_stays_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "catalog"
    job, _ = jobs(tmp_path)
    ingest(job, folder)
    catalog = Catalog.open(folder)
    path, hurt = next(catalog.picture_files("vqav2"))
    [file] = catalog.files("images")
    data = bytearray(file.read_bytes())
    data[data.find(bytes(catalog.image_bytes(hurt))) + 20] ^= 1
    file.write_bytes(data)
    (job.root / path).unlink()
    assert verified(folder, capsys)[0] == 1
    ingest(job, folder)
    refused = Catalog.open(folder).refusals().collect()
    assert refused["reason"].to_list() == ["missing_file"] * 2
    assert verified(folder, capsys) == (0, "5 pictures, 0 damaged")
