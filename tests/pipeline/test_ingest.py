"""Ingest: nothing lost, nothing doubled, only what changed is done again, a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from catalog import Catalog
from catalog.errors import DataError, UserError
from catalog.record import ImageRef, Message, Record
from catalog.schema import record_of
from pipeline.ingest import build, commit, cut, ingest, survey
from pipeline.jobs import Job, jobs_of_file, jobs_of_pairs
from pipeline.sources import find
from tests.official import write_alpaca, write_picture, write_vqav2


def job(root: Path, source: str = "vqav2") -> Job:
    return Job(source=source, root=root)


def records(catalog: Path, source: str) -> dict[tuple[str, str], object]:
    rows = Catalog.open(catalog).samples().collect().to_dicts()
    found = [record_of(row) for row in rows if row["source"] == source]
    assert len({(r.split, r.native_id) for r in found}) == len(found), "a record is there twice"
    return {(record.split, record.native_id): record for record in found}


def test_the_catalog_holds_exactly_what_the_reader_yields(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    ingest(job(root), tmp_path / "catalog")
    read = {(r.split, r.native_id): r for r in find("vqav2").read(root, "train")}  # type: ignore[union-attr]
    assert records(tmp_path / "catalog", "vqav2") == read


def test_every_picture_is_its_file_byte_for_byte_and_stored_once(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    ingest(job(root), tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    known = dict(catalog.picture_files("vqav2"))
    assert len(known) == len(catalog.image_store()) == 3
    for path, image_id in known.items():
        assert bytes(catalog.image_bytes(image_id)) == (root / path).read_bytes()


def test_a_check_by_markers_gives_the_same_catalog_and_is_made_up_for_by_decoding(
    tmp_path: Path,
) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    picture = next(root.rglob("*.jpg"))
    data = bytearray(picture.read_bytes())
    data[-60:-2] = bytes(58)
    ingest(job(root), tmp_path / "decoded")
    quick = replace(job(root), check="markers")
    ingest(quick, tmp_path / "catalog")
    assert survey(quick, tmp_path / "catalog").up_to_date
    for table in ("samples", "images"):
        one, two = (
            getattr(Catalog.open(tmp_path / name), table)().collect().sort(pl.first())
            for name in ("decoded", "catalog")
        )
        assert one.equals(two)
    picture.write_bytes(data)
    ingest(quick, tmp_path / "catalog")
    assert Catalog.open(tmp_path / "catalog").refusals().collect().is_empty()
    assert survey(job(root), tmp_path / "catalog").reasons == ("other options",)
    ingest(job(root), tmp_path / "catalog")
    reasons = Catalog.open(tmp_path / "catalog").refusals().collect()["reason"]
    assert set(reasons) == {"damaged_picture"}


def test_an_ingest_with_nothing_new_writes_no_version(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    ingest(job(root), folder)
    logs = sorted(folder.rglob("_delta_log/*.json"))
    assert ingest(job(root), folder) == []
    assert sorted(folder.rglob("_delta_log/*.json")) == logs
    os.utime(root / "v2_mscoco_train2014_annotations.json")
    assert survey(job(root), folder).up_to_date, "a new time is no new content"


def test_a_touched_annotation_redoes_one_partition(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    write_vqav2(root, split="val2014")
    ingest(job(root), folder)
    before = set(Catalog.open(folder).files("samples"))
    file = root / "v2_mscoco_val2014_annotations.json"
    file.write_text(file.read_text().replace('"cat"', '"dog"'))
    assert "v2_mscoco_val2014_annotations.json" in survey(job(root), folder).reasons[0]
    ingest(job(root), folder)
    after = set(Catalog.open(folder).files("samples"))
    assert len(before & after) == 1
    assert len(after) == 2
    old = Catalog.open(folder, version=1).samples().collect()
    assert set(old.get_column("answers").explode()) == {"cat"}, "the old version is still there"


def test_a_changed_picture_is_noticed_and_a_mended_one_taken(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    picture = root / "train2014" / "COCO_train2014_000000000001.jpg"
    good = picture.read_bytes()
    picture.write_bytes(good[: len(good) // 2])
    ingest(job(root), folder)
    assert Catalog.open(folder).counts() == {"vqav2": {"train": (4, 2)}}
    assert set(Catalog.open(folder).refusals().collect()["reason"]) == {"damaged_picture"}
    assert survey(job(root), folder).up_to_date
    picture.write_bytes(good)
    assert survey(job(root), folder).reasons == (
        "changed picture: train2014/COCO_train2014_000000000001.jpg",
    )
    ingest(job(root), folder)
    assert Catalog.open(folder).counts() == {"vqav2": {"train": (6, 0)}}


def test_a_changed_container_is_noticed(tmp_path: Path) -> None:
    root, folder = tmp_path / "llava", tmp_path / "catalog"
    for number in range(2):
        write_picture(tmp_path / f"{number}.png", number)
    turns = [{"from": "human", "value": "<image>\nHi"}, {"from": "gpt", "value": "Ho"}]
    root.mkdir()
    source = find("llava")

    def read(*_: object) -> Iterator[Record]:
        yield Record(
            source="llava",
            split="chat",
            native_id="1",
            task="conversation",
            images=(ImageRef(path="all.zip", member="a.png"),),
            messages=(Message(role="user", content="<image>"),),
        )

    with pytest.MonkeyPatch.context() as patch:
        changed = replace(source, reader=read)
        patch.setattr("pipeline.jobs.find", lambda name: changed)
        (root / "chat.json").write_text(json.dumps([{"conversations": turns}]))
        assert build_of(job(root, "llava"), folder) == (0, 1), "the zip is missing"
        for number in range(2):
            with zipfile.ZipFile(root / "all.zip", "w") as archive:
                archive.write(tmp_path / f"{number}.png", "a.png")
            assert survey(job(root, "llava"), folder).reasons == ("changed container: all.zip",)
            assert build_of(job(root, "llava"), folder) == (1, 0)
            assert survey(job(root, "llava"), folder).up_to_date
        assert len(Catalog.open(folder).image_store()) == 2


def build_of(job: Job, folder: Path) -> tuple[int, int]:
    """Ingest; return how many records were taken and refused."""
    built = ingest(job, folder)
    return sum(part.records for part in built), sum(part.refused for part in built)


def test_records_are_the_same_however_they_are_cut(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2", questions=10)
    ingest(job(root), tmp_path / "whole")
    Catalog.create(tmp_path / "cut")
    chunks = list(cut(job(root), tmp_path / "cut", chunk_records=3))
    assert [chunk.count for chunk in chunks] == [3, 3, 3, 1]
    built = [build(chunk, tmp_path / "cut") for chunk in reversed(chunks)]
    commit(job(root), built, tmp_path / "cut")
    assert records(tmp_path / "cut", "vqav2") == records(tmp_path / "whole", "vqav2")
    assert len(Catalog.open(tmp_path / "cut").image_store()) == 5, "chunks share pictures"


def test_a_path_in_windows_spelling_is_found_and_known_again(tmp_path: Path) -> None:
    root, folder = tmp_path / "llava", tmp_path / "catalog"
    write_picture(root / "pictures" / "a.jpg", 0)
    turns = [{"from": "human", "value": "<image>\nHi"}, {"from": "gpt", "value": "Ho"}]
    entry = {"id": "1", "image": "pictures\\a.jpg", "conversations": turns}
    (root / "chat.json").write_text(json.dumps([entry]))
    assert build_of(job(root, "llava"), folder) == (1, 0)
    assert survey(job(root, "llava"), folder).up_to_date
    write_picture(root / "pictures" / "a.jpg", 1)
    assert survey(job(root, "llava"), folder).reasons == ("changed picture: pictures\\a.jpg",)


def test_a_picture_shared_by_two_sources_is_stored_once(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    ingest(job(root), folder)
    llava = tmp_path / "llava"
    write_picture(llava / "pictures" / "a.jpg", 0)
    turns = [{"from": "human", "value": "<image>\nHi"}, {"from": "gpt", "value": "Ho"}]
    entry = {"id": "1", "image": "pictures/a.jpg", "conversations": turns}
    (llava / "chat.json").write_text(json.dumps([entry]))
    ingest(job(llava, "llava"), folder)
    assert len(Catalog.open(folder).image_store()) == 3
    assert Catalog.open(folder).sources() == ["llava", "vqav2"]


def test_a_broken_file_stops_its_source_and_leaves_the_catalog(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    ingest(job(root), folder)
    before = records(folder, "vqav2")
    file = root / "v2_mscoco_train2014_annotations.json"
    file.write_text(file.read_text()[:-40])
    with pytest.raises(DataError, match=r"annotations\.json: not JSON at byte [\d,]+ of .*\nFix: "):
        ingest(job(root), folder)
    assert records(folder, "vqav2") == before
    assert Catalog.open(folder).version == 1


def test_records_of_one_id_are_taken_once_and_the_rest_counted(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    file = root / "v2_OpenEnded_mscoco_train2014_questions.json"
    content = json.loads(file.read_text())
    content["questions"].append(content["questions"][0])
    file.write_text(json.dumps(content))
    ingest(job(root), tmp_path / "catalog")
    assert Catalog.open(tmp_path / "catalog").counts() == {"vqav2": {"train": (6, 1)}}


@pytest.mark.parametrize("extra", [{"a": "\ud83d"}, {"a": 2**70}])
def test_what_cannot_be_stored_is_refused_and_the_rest_goes_in(
    extra: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    common = {"source": "alpaca", "split": "train", "task": "text"}
    words = (Message(role="assistant", content="Hi"),)

    def read(*_: object) -> Iterator[Record]:
        for key, more in (("1", {}), ("2", extra), ("3", {"a": deep})):
            yield Record(native_id=key, messages=words, extra=more, **common)  # type: ignore[arg-type]

    changed = replace(find("alpaca"), reader=read)
    monkeypatch.setattr("pipeline.jobs.find", lambda name: changed)
    root = write_alpaca(tmp_path / "alpaca")
    assert build_of(job(root, "alpaca"), tmp_path / "catalog") == (1, 2)
    assert set(Catalog.open(tmp_path / "catalog").refusals().collect()["reason"]) == {"broken_text"}


def test_killed_at_any_moment_the_rerun_ends_as_if_never_killed(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2", questions=60), tmp_path / "catalog"
    code = (
        "import sys; from pathlib import Path; from catalog import Catalog\n"
        "from pipeline.ingest import build, commit, cut; from pipeline.jobs import Job\n"
        f"job = Job(source='vqav2', root=Path({str(root)!r})); folder = Path({str(folder)!r})\n"
        "Catalog.create(folder); print('go', flush=True)\n"
        "chunks = cut(job, folder, chunk_records=5)\n"
        "commit(job, [build(chunk, folder) for chunk in chunks], folder)\n"
    )
    for delay in (0.01, 0.03, 0.06, 0.1, 0.15, 0.2):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        seen = records(folder, "vqav2")
        assert len(seen) in (0, 60), "half a source is visible"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    ingest(job(root), tmp_path / "other")
    assert records(folder, "vqav2") == records(tmp_path / "other", "vqav2")
    ids = [image_id for _, image_id in Catalog.open(folder).picture_files("vqav2")]
    assert len(Catalog.open(folder).image_store()) == len(set(ids)) == 30


def test_a_receipt_of_another_version_is_not_believed(tmp_path: Path) -> None:
    root, folder = write_vqav2(tmp_path / "vqav2"), tmp_path / "catalog"
    Catalog.create(folder)
    [chunk] = cut(job(root), folder)
    built = build(chunk, folder)
    values = json.loads(chunk.receipt.read_bytes())
    del values["containers"]
    chunk.receipt.write_text(json.dumps(values | {"samples": "gone"}))
    assert build(chunk, folder) == built


def test_jobs_come_from_words_or_from_a_file(tmp_path: Path) -> None:
    write_alpaca(tmp_path / "alpaca")
    (tmp_path / "cuvee.yaml").write_text(
        "catalog: catalog\nsources:\n  - {source: alpaca, root: alpaca, splits: [train]}\n"
    )
    folder, jobs = jobs_of_file(tmp_path / "cuvee.yaml")
    assert folder == tmp_path / "catalog"
    assert jobs == (Job(source="alpaca", root=tmp_path / "alpaca", splits=("train",)),)
    assert jobs_of_pairs([f"alpaca={tmp_path / 'alpaca'}"])[0].splits is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vqa2=."], "did you mean 'vqav2'"),
        (["vqav2"], "is not NAME=ROOT"),
        (["vqav2=/nowhere/at/all"], "is not a folder"),
        (["alpaca=.", "alpaca=."], "is named twice"),
    ],
)
def test_wrong_words_are_explained(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        jobs_of_pairs(words)


def test_a_typo_in_the_file_names_line_and_field(tmp_path: Path) -> None:
    (tmp_path / "cuvee.yaml").write_text("catalog: c\nsources:\n  - source: alpaca\n    rot: x\n")
    with pytest.raises(
        UserError, match=r"cuvee\.yaml, line 4, field sources\.0\.rot: no such field"
    ):
        jobs_of_file(tmp_path / "cuvee.yaml")
    (tmp_path / "cuvee.yaml").write_text("catalog: [c\n")
    with pytest.raises(UserError, match=r"line 2: not YAML"):
        jobs_of_file(tmp_path / "cuvee.yaml")
