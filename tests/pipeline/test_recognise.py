"""A folder tells by itself what it holds; a wrong name is answered with what was expected and found."""

import io
import os
import random
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from catalog.errors import UserError
from pipeline.peek import peek
from pipeline.recognise import recognise, show_guesses
from pipeline.sources import SOURCES
from tests.pipeline.test_sources import SAMPLES, needs_samples

DATA = Path(__file__).parent.parent / "data"


def test_every_fixture_is_recognised_without_its_name(tmp_path: Path) -> None:
    first, missed = 0, []
    for source in SOURCES:
        root = Path(shutil.copytree(DATA / source.name, tmp_path / "release"))
        names = [guess.source for guess in recognise(root)]
        first += names[0] == source.name
        if source.name not in names:
            missed.append(source.name)
        shutil.rmtree(root)
    assert not missed
    # The others share their format, and often their fixture, with a relative.
    assert first >= 0.8 * len(SOURCES)


KNOWN = {
    "allava": "allava",
    "aokvqa": "aokvqa",
    "as_v2_derived": "as_v2",
    "chartqa": "chartqa",
    "clevr": "clevr",
    "clevr/CLEVR_v1.0": "clevr",
    "clevr/generator_output": "clevr",
    "coco_captions": "coco_captions",
    "deepform": "deepform",
    "docvqa": "docvqa",
    "figureqa": "figureqa",
    "flickr30k": "flickr30k",
    "flickr30k/hf_csv": "flickr30k",
    "flickr30k_entities": "flickr30k_entities",
    "grit_kosmos2": "grit",
    "iconqa": "iconqa",
    "infographicvqa": "infographicvqa",
    "llava_next": "llava",
    "llava_onevision_parquet": "llava_onevision",
    "lvis_v1_derived": "lvis",
    "m3it": "m3it",
    "mmc4": "mmc4",
    "ms_swift": "ms_swift",
    "multimodal_ocr_json": "multimodal_ocr",
    "nlvr": "nlvr",
    "nlvr2": "nlvr2",
    "obelics_parquet": "obelics",
    "objects365": "objects365",
    "ocr_scene_text/art": "art",
    "ocr_scene_text/cocotext": "cocotext",
    "ocr_scene_text/icdar2015": "icdar2015",
    "ocr_scene_text/icdar2015_rec": "icdar2015",
    "ocr_scene_text/lsvt": "lsvt",
    "ocr_scene_text/rctw17": "rctw17",
    "ocr_scene_text/rects": "rects",
    "ocrvqa": "ocrvqa",
    "psg": "psg",
    "qwen_vl": "qwen_vl",
    "realcqa": "realcqa",
    "scienceqa": "scienceqa",
    "shikra_derived": "shikra",
    "stvqa": "stvqa",
    "synthdog": "synthdog",
    "tabfact": "tabfact",
    "textcaps": "textcaps",
    "textvqa": "textvqa",
    "textvqa_vqaformat": "vqav2",
    "the_cauldron_parquet": "the_cauldron",
    "ultrachat": "ultrachat",
    "url_caption": "laion",
    "url_caption/img2dataset_files": "laion",
    "url_caption/img2dataset_parquet": "laion",
    "vcr": "vcr",
    "visual7w": "visual7w",
    "visual_genome": "vg_objects",
    "vizwiz": "vizwiz",
    "vizwiz_vqaformat": "vizwiz",
    "wikitablequestions": "wikitablequestions",
}
"""Sample release -> the source it is, or the first of those that share its format."""


@needs_samples
@pytest.mark.parametrize("folder", KNOWN)
def test_a_sample_of_a_real_release_is_named_first(folder: str) -> None:
    assert recognise(SAMPLES / folder)[0].source == KNOWN[folder]


@needs_samples
def test_releases_one_folder_deeper_are_found_each_with_its_folder() -> None:
    scene = {(g.source, g.folder) for g in recognise(SAMPLES / "ocr_scene_text") if g.sure > 0.3}
    assert scene >= {
        (name, name) for name in ("art", "cocotext", "icdar2015", "lsvt", "rctw17", "rects")
    }
    refer = {(g.source, g.folder) for g in recognise(SAMPLES / "refer") if g.sure > 0.3}
    assert refer >= {("refcocog", "data"), ("refcoco", "data"), ("refcoco+", "data")}
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    show_guesses(console, SAMPLES / "coco_captions")
    text = console.export_text()
    assert "coco_captions in tfds/" in text
    assert text.rstrip().endswith(f"cuvee peek coco_captions {SAMPLES / 'coco_captions' / 'tfds'}")


def test_a_guess_says_how_sure_and_why() -> None:
    best = recognise(DATA / "vqav2")[0]
    assert best.source == "vqav2"
    assert 0.3 < best.sure < 1
    assert "records read" in best.why
    with Console(file=None, record=True, width=160, quiet=False) as console:
        show_guesses(console, DATA / "vqav2")
    assert "cuvee peek vqav2" in console.export_text()


def test_no_folder_however_odd_crashes_it(tmp_path: Path) -> None:
    dice = random.Random(0)
    names = [
        *(
            "a.json",
            "b.jsonl",
            "c.parquet",
            "d.arrow",
            "e.tar",
            "f.tar.gz",
            "g.tsv",
            "h.csv",
            "i.xml",
        ),
        *("state.json", "dataset_info.json", "instances.json", "refs(unc).p", "questions.json"),
        *("v2_OpenEnded_mscoco_train2014_questions.json", "train.txt", "x.zip", "y.pkl", "z.pdf"),
    ]
    for content in (b"", b"{", b"[]", b'[{"conversations": 1}]', dice.randbytes(500)):
        for folder in (tmp_path, tmp_path / "data", tmp_path / "annotations"):
            folder.mkdir(exist_ok=True)
            for name in names:
                (folder / name).write_bytes(content)
        for guess in recognise(tmp_path):
            assert "the reader failed" not in guess.why
            assert guess.sure < 0.9
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "nothing")
    assert isinstance(recognise(tmp_path), list)


def test_a_wrong_name_is_told_what_was_expected_and_what_is_there() -> None:
    with pytest.raises(UserError) as error:
        list(peek("textvqa", DATA / "vqav2"))
    text = str(error.value)
    assert "it should hold TextVQA_0.5.1_{train,val,test}.json" in text
    assert "it holds test2015/, train2014/, v2_OpenEnded" in text
    assert "It looks like vqav2" in text


def test_a_folder_of_nothing_known_lists_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"PK")
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(UserError, match=r"it holds notes\.docx, pipe\.bin"):
        show_guesses(Console(), tmp_path)
