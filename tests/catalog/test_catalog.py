"""The tables: ordinary files for other tools, memory-speed reads for us, one version at a time."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import Part, write_part
from catalog.record import Message, Record, Region
from catalog.schema import record_of, sample_table
from catalog.statistics import Statistics
from pipeline.encode import EncoderConfig, encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=40))
def test_an_address_gives_what_pyarrow_reads(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("part") / "a.parquet"
    columns = {
        "name": pa.array([str(i) for i in range(len(values))], pa.string()),
        "size": pa.array([len(v) for v in values], pa.int32()),
        "data": pa.array(values, pa.binary()),
    }
    fields = [pa.field("name", pa.string())]
    fields += [pa.field("size", pa.int32(), False), pa.field("data", pa.binary(), False)]
    write_part(path, pa.table(columns, schema=pa.schema(fields)), binary="data")
    part = Part(path)
    assert [bytes(part[i]) for i in range(len(part))] == values
    assert pq.read_table(path)["data"].to_pylist() == values


def test_addresses_hold_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.parts.ROW_GROUP_BYTES", 1000)
    values = [bytes([i]) * (i * 7) for i in range(100)]
    columns = [pa.array([len(v) for v in values], pa.int32()), pa.array(values, pa.binary())]
    fields = [pa.field("size", pa.int32(), False), pa.field("data", pa.binary(), False)]
    write_part(tmp_path / "a", pa.table(columns, schema=pa.schema(fields)), binary="data")
    assert pq.read_metadata(tmp_path / "a").num_row_groups > 10
    part = Part(tmp_path / "a")
    assert [bytes(part[i]) for i in range(100)] == values


def test_addresses_hold_for_very_many_small_values(tmp_path: Path) -> None:
    values = [b"%d" % number for number in range(50_000)]
    columns = [pa.array([len(v) for v in values], pa.int32()), pa.array(values, pa.binary())]
    fields = [pa.field("size", pa.int32(), False), pa.field("data", pa.binary(), False)]
    write_part(tmp_path / "a", pa.table(columns, schema=pa.schema(fields)), binary="data")
    part = Part(tmp_path / "a")
    assert [bytes(part[i]) for i in range(0, 50_000, 97)] == values[::97]
    assert bytes(part[49_999]) == b"49999"


def test_more_files_may_be_open_than_the_shell_allows(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "from catalog.parts import allow_open\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "allow_open(100)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE) == (612, hard))\n"
        "allow_open(10)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE) == (612, hard))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_file_that_is_not_addressable_is_refused(tmp_path: Path) -> None:
    table = pa.table({"size": pa.array([3, 3], pa.int32()), "data": [b"abc", b"abc"]})
    pq.write_table(table, tmp_path / "a")
    with pytest.raises(ValueError, match="not addressable"):
        Part(tmp_path / "a")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("catalog")
    ingest(Job(source="vqav2", root=write_vqav2(folder / "vqav2")), folder / "c")
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca")), folder / "c")
    return Catalog.open(folder / "c")


def test_duckdb_polars_and_pyarrow_read_the_same_pictures(catalog: Catalog) -> None:
    files = [str(file) for file in catalog.files("images")]
    arrow = {
        row["image_id"]: row["data"] for file in files for row in pq.read_table(file).to_pylist()
    }
    polars = dict(pl.scan_parquet(files).select("image_id", "data").collect().iter_rows())
    duck = dict(duckdb.execute(f"select image_id, data from read_parquet({files})").fetchall())
    ours = {image_id: bytes(catalog.image_bytes(image_id)) for image_id in arrow}
    assert arrow == polars == duck == ours
    assert len(ours) == 3


def test_an_older_version_reads_as_it_was(catalog: Catalog) -> None:
    assert Catalog.open(catalog.path, version=0).sources() == []
    assert Catalog.open(catalog.path, version=1).sources() == ["vqav2"]
    assert len(Catalog.open(catalog.path, version=1).samples().collect()) == 6
    assert catalog.sources() == ["alpaca", "vqav2"]
    with pytest.raises(UserError, match="version 77"):
        Catalog.open(catalog.path, version=77)


def test_an_unknown_picture_is_explained(catalog: Catalog) -> None:
    with pytest.raises(UserError, match="no picture 0000"):
        catalog.image_bytes("0" * 64)


def test_statistics_count_samples_pictures_and_licences(catalog: Catalog) -> None:
    found = Statistics.of(catalog)
    rows = {row["source"]: row for row in found.sources.iter_rows(named=True)}
    assert (rows["vqav2"]["samples"], rows["vqav2"]["pictures"], rows["vqav2"]["distinct"]) == (
        6,
        6,
        3,
    )
    assert rows["alpaca"]["distinct"] == 0
    assert found.licenses["samples"].sum() == 10
    assert found.sides["pictures"].sum() == 3
    assert Statistics.of(catalog, "source = 'alpaca'").sources["samples"].to_list() == [4]
    with pytest.raises(UserError, match="SQL"):
        Statistics.of(catalog, "nonsense > 3")


def test_statistics_count_the_tokens_of_what_was_encoded(catalog: Catalog, tmp_path: Path) -> None:
    assert len(Statistics.of(catalog).tokens) == 0
    config = EncoderConfig(tokenizer=make_tokenizer(tmp_path / "tok"))
    encoder = encode(catalog, config, ["vqav2"])
    found = Statistics.of(catalog)
    rows = catalog.encodings(encoder).select("n_tokens", "n_loss").collect()
    [row] = found.tokens.to_dicts()
    assert row == {
        "encoder": encoder,
        "source": "vqav2",
        "encoded": 6,
        "text": rows["n_tokens"].sum(),
        "learnt": rows["n_loss"].sum(),
    }
    assert found.lengths["samples"].sum() == 6
    assert len(Statistics.of(catalog, "source = 'alpaca'").tokens) == 0


def test_statistics_tell_scripts_apart(tmp_path: Path) -> None:
    texts = ["Was ist das?", "这是什么", "1 + 1", "что это"]
    rows = [{"instruction": text, "input": "", "output": text} for text in texts]
    (tmp_path / "alpaca_data.json").write_text(json.dumps(rows))
    ingest(Job(source="alpaca", root=tmp_path), tmp_path / "catalog")
    found = Statistics.of(Catalog.open(tmp_path / "catalog"))
    assert dict(found.scripts.select("script", "share").iter_rows()) == {
        "Latin": 0.25,
        "Han": 0.25,
        "Cyrillic": 0.25,
        "none": 0.25,
    }
    assert found.families.to_dicts() == [
        {"family": "text", "sources": 1, "samples": 4, "pictures": 0, "distinct": 0}
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(
    texts,
    st.none() | st.lists(texts, max_size=4).map(tuple),
    st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=3),
    st.dictionaries(texts, st.none() | st.booleans() | st.integers(-(2**50), 2**50) | texts),
)
def test_a_record_comes_back_from_its_row(
    text: str,
    answers: tuple[str, ...] | None,
    boxes: list[tuple[float, float, float, float]],
    extra: dict[str, object],
) -> None:
    record = Record(
        source="s",
        split="train",
        native_id=text,
        task="vqa",
        messages=(Message(role="user", content=text, loss=None),),
        answers=answers,
        regions=tuple(Region(label=text, box=box, span=(0, 1), extra=extra) for box in boxes),
        extra=extra,
    )
    [row] = sample_table([record], image_ids=[[]], sizes=[[]], family="vqa").to_pylist()
    assert record_of(row | {"source": "s"}) == record
