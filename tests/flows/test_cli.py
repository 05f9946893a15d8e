"""The command line as a user meets it: real processes, real output, one clear message on bad use."""

import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml

from catalog import Catalog
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.sources import SOURCES
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

ROOT = Path(__file__).parents[2]


def cuvee(*words: object, code: int = 0) -> str:
    """Run the command; return what it printed, errors included."""
    run = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=None,
    )
    assert run.returncode == code, run.stdout
    assert "Traceback" not in run.stdout
    return run.stdout


def test_the_road_from_official_files_to_a_scored_model(tmp_path: Path) -> None:
    write_vqav2(tmp_path / "vqav2", questions=20)
    write_vqav2(tmp_path / "vqav2", split="val2014", questions=4)
    write_alpaca(tmp_path / "alpaca")
    make_tokenizer(tmp_path / "tok")
    catalog = tmp_path / "catalog"
    pairs = [f"vqav2={tmp_path / 'vqav2'}", f"alpaca={tmp_path / 'alpaca'}"]
    assert "never ingested" in cuvee("ingest", *pairs, "--catalog", catalog, "--dry-run")
    cuvee("ingest", *pairs, "--catalog", catalog, "--workers", 2)
    assert Catalog.open(catalog).counts() == {
        "vqav2": {"train": (20, 0), "val": (4, 0)},
        "alpaca": {"train": (4, 0)},
    }
    logs = sorted(catalog.rglob("_delta_log/*.json"))
    assert "up to date" in cuvee("ingest", *pairs, "--catalog", catalog)
    assert sorted(catalog.rglob("_delta_log/*.json")) == logs
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "first",
                "budget": {"epochs": 1},
                "sources": [{"family": "vqa", "where": "split = 'train'"}],
                "encoder": {"tokenizer": "tok"},
                "image": {"size": 32, "tokens": 4},
                "packing": {"tokens": 256, "packs_per_step": 2},
            }
        )
    )
    words = ("stats", "--catalog", catalog, "--recipe", tmp_path / "recipe.yaml")
    assert "24 samples are not encoded" in cuvee(*words, code=1)
    made = cuvee("plan", tmp_path / "recipe.yaml", "--catalog", catalog)
    assert "family:vqa" in made
    versions = sorted(catalog.rglob("_delta_log/*.json"))
    seen = cuvee(*words, "--html", tmp_path / "recipe.html")
    # The shares and the fate of every sample are those of the plan; nothing was written.
    tables = made[made.index("first: shares") : made.index("plan  ")].strip()
    assert tables in seen
    assert "The recipe: first" in (tmp_path / "recipe.html").read_text()
    assert sorted(catalog.rglob("_delta_log/*.json")) == versions
    [plan] = (catalog / "plans").glob("plan=*")
    lines = cuvee("trace", plan, "--step", 0, "--json").splitlines()
    sample = orjson.loads(lines[0])["sample_id"]
    assert 0 in orjson.loads(cuvee("trace", plan, "--sample", sample, "--json"))["steps"]
    cuvee("stats", "--catalog", catalog, "--html", tmp_path / "stats.html")
    assert "vqav2" in (tmp_path / "stats.html").read_text()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision = tower | {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    language = tower | {"num_attention_heads": 2, "num_key_value_heads": 2}
    run = {"catalog": "catalog", "output": "run", "processes": 2}
    run |= {"vision": {"config": vision}, "language": {"config": language}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    assert "done: " in cuvee("train", tmp_path / "run.yaml")
    assert "finished before" in cuvee("train", tmp_path / "run.yaml")
    assert "VQA accuracy" in cuvee("eval", tmp_path / "run", "--split", "val")
    assert "VQA accuracy" in (tmp_path / "run" / "report.html").read_text()
    assert "10 pictures, 0 damaged" in cuvee("verify", "--catalog", catalog)


def test_a_broken_source_stops_alone_and_the_others_go_in(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2")
    file = root / "v2_OpenEnded_mscoco_train2014_questions.json"
    file.write_bytes(file.read_bytes()[:-20])
    write_alpaca(tmp_path / "alpaca")
    pairs = [f"vqav2={root}", f"alpaca={tmp_path / 'alpaca'}"]
    said = cuvee("ingest", *pairs, "--catalog", tmp_path / "catalog", "--runner", "thread", code=1)
    assert "not JSON at byte" in said
    assert Catalog.open(tmp_path / "catalog").sources() == ["alpaca"]


def test_verify_names_a_damaged_picture(tmp_path: Path) -> None:
    ingest(Job(source="vqav2", root=write_vqav2(tmp_path / "vqav2")), tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    image_id = next(image_id for _, image_id in catalog.picture_files("vqav2"))
    [file] = catalog.files("images")
    data = bytearray(file.read_bytes())
    data[data.find(bytes(catalog.image_bytes(image_id))) + 20] ^= 1
    file.write_bytes(data)
    assert f"damaged {image_id}" in cuvee("verify", "--catalog", tmp_path / "catalog", code=1)


def test_peek_prints_one_object_a_line() -> None:
    lines = cuvee("peek", "refcoco", ROOT / "tests/data/refcoco", "--json").splitlines()
    items = [json.loads(line) for line in lines]
    assert {"source", "split", "native_id", "task", "images", "regions"} <= set(items[0])
    assert [item["refused"] for item in items if "refused" in item] == ["no_annotation"]
    assert len(cuvee("sources", "--json").splitlines()) == len(SOURCES)


def test_options_of_a_source_are_words_for_peek_and_ingest_alike(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "rows.json").write_text('[{"ask": "Up?", "say": "No", "answer": "Yes"}]')
    (tmp_path / "two" / "a.txt").write_text("first\nsecond\n")
    columns = "columns={question: ask, answer: say}"
    [line] = cuvee(
        "peek", "json_rows", tmp_path / "one", "--json", "--option", columns
    ).splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]] == ["Up?", "No"]
    words = [f"json_rows={tmp_path / 'one'}", f"documents={tmp_path / 'two'}"]
    words += ["--catalog", str(tmp_path / "catalog"), "--runner", "local"]
    words += ["--option", f"json_rows.{columns}"]
    lines = ("--option", "documents.unit=line")
    cuvee("ingest", *words, *lines)
    catalog = Catalog.open(tmp_path / "catalog")
    assert catalog.counts() == {"json_rows": {"rows": (1, 0)}, "documents": {"train": (2, 0)}}
    kept = catalog.samples().collect().filter(source="json_rows")["answers"].to_list()
    assert kept == [["No"]]
    assert "redo" not in cuvee("ingest", *words, *lines, "--dry-run")
    assert "other options" in cuvee("ingest", *words, "--dry-run")
    assert "other options" in cuvee("ingest", *words, *lines, "--check", "markers", "--dry-run")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("peek", "vqa2", "."), 1, "did you mean 'vqav2'"),
        (("peek", "vqav2", "/nowhere"), 1, "is not a folder"),
        (("peek", "vqav2", "tests"), 1, "holds no files of vqav2"),
        (("peek", "vqav2", "tests/data/vqav2", "--split", "dev"), 1, "one of test, train"),
        (("stats", "--catalog", "/nowhere"), 1, "no catalog there"),
        (("ingest", "vqav2", "--catalog", "/tmp/x"), 1, "is not NAME=ROOT"),
        (("ingest",), 1, "say what to ingest"),
        (("peek", "tests", "--option", "unit=line"), 1, "options without a source"),
        (("peek", "vqav2", "tests", "--option", "unit=line"), 1, "vqav2 takes no options"),
        (("peek", "tsv", "tests", "--option", "unit=line"), 1, "no such option: unit Fix: tsv"),
        (("ingest", "-f", "x.yaml", "--option", "unit=line"), 1, "the sources stand in x.yaml"),
        (("ingest", "-f", "/nowhere.yaml"), 1, "no such file"),
        (("plan", "/nowhere.yaml", "--catalog", "/nowhere"), 1, "no such file"),
        (("trace", "abc"), 1, "ask for one thing"),
        (("export", "abc", "--to", "tar", "--out", "/nowhere"), 1, "add --catalog DIR"),
        (("push", "/there", "--catalog", "/nowhere"), 1, "is no object store"),
        (("fly",), 2, "No such command"),
    ],
)
def test_bad_use_is_one_message_and_a_code(words: tuple[str, ...], code: int, message: str) -> None:
    assert message in " ".join(cuvee(*words, code=code).split())


def test_a_catalog_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    Catalog.create(tmp_path)
    (tmp_path / "cuvee.json").write_text('{"schema": 99}')
    assert "schema version 99" in cuvee("stats", "--catalog", tmp_path, code=1)
