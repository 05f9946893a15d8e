"""General formats: any columns, any shards, under any name; the libraries' own readers agree."""

import gc
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from catalog import Catalog
from catalog.errors import DataError, UserError
from catalog.record import ImageRef, Record
from pipeline.checks import read_picture
from pipeline.ingest import ingest, survey
from pipeline.jobs import Job, jobs_of_file, jobs_of_pairs, options_of_words
from pipeline.sources import find
from pipeline.sources.base import Bad
from pipeline.sources.columns import Columns, choose


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def read(source: str, root: Path, split: str, **options: object) -> list[Record]:
    reader = find(source).of_job(source, options)
    items = list(reader.read(root, split))
    assert all(isinstance(item, Record) for item in items), items
    return [item for item in items if isinstance(item, Record)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_of_the_webdataset_library_give_its_own_samples(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=4, verbose=0) as writer:
        for i in range(10):
            writer.write({"__key__": f"{i:04}", "png": png(i), "json": {"question": f"{i}?"}})
    shards = sorted(str(file) for file in tmp_path.glob("*.tar"))
    theirs = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()  # the library leaves its shards open
    ours = read("webdataset", tmp_path, "train")
    assert [record.native_id for record in ours] == [sample["__key__"] for sample in theirs]
    assert [read_picture(tmp_path, r.images[0]) for r in ours] == [s["png"] for s in theirs]
    assert [r.messages[0].content for r in ours] == [f"<image>\n{i}?" for i in range(10)]


@pytest.mark.parametrize("format", ["saved", "parquet", "hub"])
def test_columns_are_mapped_and_the_rest_is_kept(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [
        {"pic": {"bytes": png(i), "path": None}, "ask": f"{i}?", "say": "yes", "more": {"n": i}}
        for i in range(5)
    ]
    features = datasets.Features(
        {
            "pic": datasets.Image(),
            "ask": datasets.Value("string"),
            "say": datasets.Value("string"),
            "more": {"n": datasets.Value("int64")},
        }
    )
    dataset = datasets.Dataset.from_list(rows, features=features)
    root = tmp_path / "root"
    options: dict[str, Any] = {"columns": {"images": "pic", "question": "ask", "answer": "say"}}
    root.mkdir()
    if format == "saved":
        dataset.save_to_disk(root)
    elif format == "parquet":
        dataset.to_parquet(root / "train-00000-of-00001.parquet")
    else:
        (tmp_path / "local").mkdir()
        dataset.to_parquet(tmp_path / "local" / "train-00000-of-00001.parquet")
        options |= {"hub": str(tmp_path / "local")}
    records = read("hf", root, "train", **options)
    assert [record.messages[0].content for record in records] == [
        f"<image>\n{i}?" for i in range(5)
    ]
    assert [record.answers for record in records] == [("yes",)] * 5
    assert [record.extra["more"] for record in records] == [{"n": i} for i in range(5)]
    assert [read_picture(root, r.images[0]) for r in records] == [png(i) for i in range(5)]


def test_a_picture_that_is_only_named_is_a_file(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.png"}, {"bytes": png(1), "path": "b.png"}]
    table = pa.Table.from_pylist([{"images": images, "caption": "Two."}])
    pq.write_table(table, tmp_path / "train.parquet")
    (record,) = read("hf", tmp_path, "train")
    assert record.images == (
        ImageRef(path="a.png"),
        ImageRef(path="train.parquet", member="0:images.1.bytes"),
    )
    assert record.extra == {"images": ["a.png", "b.png"]}


def test_columns_may_be_several_and_a_missing_one_is_named() -> None:
    row = {"left": "a", "right": "b", "q": "?"}
    columns = Columns(images=("left", "right"), question="q")
    assert choose(columns, row) == {"images": ("left", "right"), "question": "q"}
    with pytest.raises(Bad, match="no column other for 'question'"):
        choose(Columns(question="other"), row)


def test_one_format_is_ingested_twice_under_two_names(tmp_path: Path) -> None:
    for name, key in (("one", "q"), ("two", "ask")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.json").write_text(json.dumps([{key: "1?", "answer": "2"}]))
    config = tmp_path / "cuvee.yaml"
    text = (
        "catalog: catalog\nsources:\n"
        "  - {source: json_rows, name: one, root: one, options: {columns: {question: q}}}\n"
        "  - {source: json_rows, name: two, root: two, options: {columns: {question: ask}}}\n"
    )
    config.write_text(text)
    folder, jobs = jobs_of_file(config)
    for job in jobs:
        ingest(job, folder)
        assert survey(job, folder).up_to_date
    assert Catalog.open(folder).sources() == ["one", "two"]
    config.write_text(text.replace("{question: q}", "{question: q, answer: ''}"))
    _, jobs = jobs_of_file(config)
    assert survey(jobs[0], folder).reasons == ("other options",)
    assert survey(jobs[1], folder).up_to_date
    ingest(jobs[0], folder)
    answers = dict(Catalog.open(folder).samples().collect().select("source", "answers").iter_rows())
    assert answers == {"one": None, "two": ["2"]}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("vqav2", {"columns": {}}, "vqav2 takes no options, but has columns"),
        ("hf", {"colums": {}}, "hf: no such option: colums\nFix: .*columns, license, task, hub"),
        ("hf", {"columns": {"query": "q"}}, r"no such option: columns\.query"),
        ("tsv", {"unit": "line"}, "no such option: unit\nFix: tsv takes .*columns, license, task;"),
        (
            "documents",
            {"columns": {"answer": "a"}},
            r"columns\.answer\nFix: .*columns, images, text",
        ),
        (
            "documents",
            {"unit": "page"},
            "option unit: is the text 'page', and wants one of file, line, blank",
        ),
    ],
)
def test_wrong_options_are_explained(source: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(source).of_job(source, options)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["columns={images: pic}"], {"hf": {"columns": {"images": "pic"}}}),
        (["tsv.license=MIT", "hf.hub=a/b"], {"tsv": {"license": "MIT"}, "hf": {"hub": "a/b"}}),
        (["hf.license=a=b"], {"hf": {"license": "a=b"}}),
    ],
)
def test_options_are_words_of_the_command_line(
    words: list[str], options: dict[str, object]
) -> None:
    sources = ["hf", "tsv"] if any("." in word for word in words) else ["hf"]
    assert options_of_words(words, sources) == options


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("columns", "'columns' is not NAME=VALUE"),
        ("=x", "'=x' is not NAME=VALUE"),
        (".unit=x", "'.unit=x' is not NAME=VALUE"),
        ("license=MIT", "does not say whose it is\nFix: one of hf.license=…, tsv.license=…"),
        ("columns.images=pic", "'columns' is not ingested here\nFix: .*a source of hf, tsv"),
        ("hf.columns={images: pic", r"its value is not YAML: expected ',' or '\}'"),
    ],
)
def test_a_word_that_is_no_option_is_explained(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options_of_words([word], ["hf", "tsv"])


def test_an_option_stands_once() -> None:
    with pytest.raises(UserError, match="option unit of documents is given twice"):
        options_of_words(["unit=line", "documents.unit=blank"], ["documents"])


def test_options_that_json_cannot_say_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf: its options hold what JSON cannot say"):
        jobs_of_pairs([f"hf={tmp_path}"], ["columns={1: pic}"])


def test_a_job_with_a_wrong_option_stops_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "cuvee.yaml").write_text(
        f"catalog: c\nsources:\n  - {{source: tsv, root: {tmp_path}, options: {{x: 1}}}}\n"
    )
    with pytest.raises(UserError, match="tsv: no such option: x"):
        jobs_of_file(tmp_path / "cuvee.yaml")
    assert Job(source="tsv", root=tmp_path).settings == ""


def test_a_saved_dataset_with_an_index_file_says_what_to_do(tmp_path: Path) -> None:
    state = {"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="flatten_indices"):
        find("hf").found(tmp_path)


@pytest.mark.parametrize(("unit", "count"), [("file", 1), ("line", 4), ("blank", 2)])
def test_a_text_file_is_cut_into_documents_as_asked(unit: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\u2028still two\n\nthree\nfour\n", encoding="utf-8")
    records = read("documents", tmp_path, "train", unit=unit)
    assert len(records) == count
    whole = "".join("".join(r.messages[0].content.split()) for r in records)
    assert whole == "onetwostilltwothreefour"
