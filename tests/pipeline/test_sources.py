"""One test drives every reader over its fixture in official layout; others hold what is special."""

import json
import pickle
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import DataError, UserError
from catalog.record import Record, Refusal
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.peek import peek
from pipeline.sources import SOURCES, Source
from pipeline.sources.base import read_rows
from pipeline.sources.dialog import PLAIN
from pipeline.sources.fsvqa import SETTINGS
from pipeline.sources.refer import read_refs

DATA = Path(__file__).parent.parent / "data"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample releases are not here")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_reader_gives_the_expected_items(source: Source) -> None:
    root = DATA / source.name
    items = list(peek(source.name, root))
    assert any("refused" not in item for item in items), "a fixture with no records proves nothing"
    assert json.loads(json.dumps(items)) == json.loads(
        (DATA / "expected" / f"{source.name}.json").read_text()
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_ids_are_unique_and_every_word_of_the_files_survives(source: Source) -> None:
    root = DATA / source.name
    refused = {item["file"] for item in peek(source.name, root) if "refused" in item}
    for split, files in source.found(root).items():
        items = list(source.read(root, split))
        ids = Counter(item.native_id for item in items if isinstance(item, Record))
        assert not [key for key, count in ids.items() if count > 1]
        if any(isinstance(item, Refusal) for item in items) or refused & {
            file.relative_to(root).as_posix() for file in files
        }:
            continue
        kept = json.dumps(list(peek(source.name, root)), ensure_ascii=False)
        for file in files:
            if (
                file.suffix in (".json", ".jsonl")
                and file.name != SETTINGS
                and source.family != "region"
            ):
                # A speaker's usual word is the message's role.
                for word in set(strings(content(file))) - PLAIN:
                    # A picture stays in its line.
                    assert (
                        word.startswith("/9j/")
                        or json.dumps(word, ensure_ascii=False)[1:-1] in kept
                    )


def content(file: Path) -> object:
    """Return what a file of JSON or JSON Lines holds."""
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError:
        return [json.loads(line) for line in file.read_text().split("\n") if line.strip()]


def strings(content: object) -> list[str]:
    """Return every text in a file's records: its head, of single values and `info`, is not theirs."""
    if isinstance(content, dict) and any(isinstance(v, list | dict) for v in content.values()):
        heads = ("info", "license", "licenses")
        content = [
            value
            for key, value in content.items()
            if key not in heads and isinstance(value, list | dict)
        ]
    return texts(content)


def texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [word for item in inner for word in texts(item)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_folder_without_the_files_says_which_it_wants(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"holds no files of {source.name}") as error:
        source.found(tmp_path)
    assert source.files[0] in str(error.value)


@pytest.mark.parametrize("name", ["vqav2", "textvqa", "docvqa", "llava", "alpaca"])
def test_a_cut_off_file_names_itself_and_the_byte(name: str, tmp_path: Path) -> None:
    for file in (DATA / name).glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"not JSON at byte [\d,]+ of [\d,]+"):
        list(peek(name, tmp_path))


def test_a_pickle_that_names_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    file = tmp_path / "refs(unc).p"
    file.write_bytes(pickle.dumps([Evil()], protocol=0))
    with pytest.raises(DataError, match="asks to load"):
        read_refs(file)
    assert not (tmp_path / "ran").exists()


@given(st.lists(st.dictionaries(st.text(min_size=1), st.text() | st.integers(0, 9)), min_size=2))
def test_rows_are_the_same_in_every_container(rows: list[dict[str, object]]) -> None:

    folder = Path(tempfile.mkdtemp())
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "b.json").write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    (folder / "c.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(rows).encode())
    assert list(read_rows(folder / "a.json")) == rows
    assert list(read_rows(folder / "b.json")) == rows
    assert list(read_rows(folder / "c.json")) == rows


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_fixture_goes_into_a_catalog(source: Source, tmp_path: Path) -> None:
    built = ingest(Job(source=source.name, root=DATA / source.name), tmp_path)
    items = list(peek(source.name, DATA / source.name))
    assert sum(part.records + part.refused for part in built) == len(items)


REFUSED = {"objects365": {"no_category": 1}}
"""The sample has a box of a category that its own list lacks."""


@needs_samples
@pytest.mark.parametrize(
    ("name", "folder", "records"),
    [
        ("flickr30k_entities", "flickr30k_entities", 5),
        ("vg_regions", "visual_genome", 3),
        ("vg_objects", "visual_genome", 3),
        ("vg_relationships", "visual_genome", 1),
        ("grit", "grit_kosmos2", 3),
        ("as_v2", "as_v2_derived", 3),
        ("shikra", "shikra_derived", 20),
        ("lvis", "lvis_v1_derived", 12),
        ("objects365", "objects365", 4),
        ("psg", "psg", 1),
        ("vqav2", "textvqa_vqaformat", 60),
        ("aokvqa", "aokvqa", 1),
        ("scienceqa", "scienceqa", 69),
        ("vizwiz", "vizwiz", 65),
        ("vizwiz", "vizwiz_vqaformat", 60),
        ("coco_captions", "coco_captions/tfds", 1),
        ("coco_captions", "coco_captions/karpathy", 16),
        ("flickr30k", "flickr30k", 500),
        ("flickr30k", "flickr30k/hf_csv", 15),
        ("textcaps", "textcaps", 2),
        ("clevr", "clevr/CLEVR_v1.0", 5),
        ("clevr", "clevr/generator_output", 48),
        ("iconqa", "iconqa", 1),
        ("visual7w", "visual7w", 3),
        ("nlvr", "nlvr", 6),
        ("nlvr2", "nlvr2", 400),
        ("m3it", "m3it", 3),
        ("vcr", "vcr", 2),
        ("vcr_qar", "vcr", 2),
        ("vqav2", "vizwiz_vqaformat", 60),
        ("textvqa", "textvqa", 60),
        ("docvqa", "docvqa", 2),
        ("chartqa", "chartqa", 46),
        ("figureqa", "figureqa", 161),
        ("infographicvqa", "infographicvqa", 3),
        ("ocrvqa", "ocrvqa", 5),
        ("stvqa", "stvqa", 80),
        ("cocotext", "ocr_scene_text/cocotext", 2),
        ("synthdog", "synthdog/generator_output", 6),
        ("synthdog", "synthdog/hf_parquet", 6),
        ("lsvt", "ocr_scene_text/lsvt", 1),
        ("art", "ocr_scene_text/art", 3),
        ("rects", "ocr_scene_text/rects", 1),
        ("icdar2015", "ocr_scene_text/icdar2015", 1),
        ("icdar2015", "ocr_scene_text/icdar2015_rec", 4),
        ("rctw17", "ocr_scene_text/rctw17", 1),
        ("realcqa", "realcqa", 1),
        ("tabfact", "tabfact", 405),
        ("wikitablequestions", "wikitablequestions", 100),
        ("deepform", "deepform", 1300),
        ("multimodal_ocr", "multimodal_ocr_json", 320),
        ("refcoco", "refer/data", 34),
        ("refcoco", "refer/edge_nonascii", 2),
        ("refcoco+", "refer/data", 18),
        ("refcocog", "refer/data", 18),
        ("llava", "llava_next", 2),
        ("llava", "allava", 5),
        ("allava", "allava", 5),
        ("llava_onevision", "llava_onevision_parquet", 10),
        ("the_cauldron", "the_cauldron_parquet", 7),
        ("mmc4", "mmc4", 1),
        ("qwen_vl", "qwen_vl", 3),
        ("obelics", "obelics_parquet", 1),
        ("ultrachat", "ultrachat", 1),
    ],
)
def test_samples_of_real_releases_read_without_refusal(
    name: str, folder: str, records: int
) -> None:
    items = list(peek(name, SAMPLES / folder))
    refused = Counter(item["refused"] for item in items if "refused" in item)
    assert refused == REFUSED.get(name, {})
    assert len(items) - refused.total() == records


@needs_samples
@pytest.mark.parametrize("shape", ["files", "parquet", "webdataset"])
def test_shards_that_img2dataset_wrote_read_alike_in_every_shape(shape: str) -> None:
    items = list(peek("laion", SAMPLES / "url_caption" / f"img2dataset_{shape}"))
    refused = Counter(item["refused"] for item in items if "refused" in item)
    captions = sorted(item["answers"][0] for item in items if "refused" not in item)
    assert refused == {"failed_to_download": 2, "no_caption": 1}
    assert len(captions) == 7
    assert captions[0] == ""
    assert "a classroom with a chalkboard and a framed picture" in captions
