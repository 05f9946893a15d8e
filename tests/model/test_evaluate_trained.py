"""From training to score: a model that has learnt to look beats the same model blind, and a constant."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from torch import nn

from catalog import Catalog
from catalog.errors import UserError
from model.answer import Answerer
from model.ask import ask, draw
from model.config import RunConfig
from model.evaluate import evaluate
from model.judge import Answer
from model.language import vocabulary_of
from model.quantise import Precision, quantise, weight_bytes
from model.vlm import CuveeModel
from pipeline.encode import encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.model.models import POLICY, SIDE, VISUAL, values
from tests.official import write_vqav2
from tests.tokenizer import make_tokenizer

SHADES = {"cat": 30, "dog": 225}
"""Answer -> grey level of the picture."""


def write_shades(root: Path, split: str, questions: int, first: int) -> None:
    """Write a VQAv2 split in which every other picture is dark, and the answer says which."""
    write_vqav2(root, split=split, questions=questions, first=first)
    file = root / f"v2_mscoco_{split}_annotations.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        number = annotation["image_id"]
        answer = list(SHADES)[number % 2]
        annotation["multiple_choice_answer"] = answer
        for given in annotation["answers"]:
            given["answer"] = answer
        shade = SHADES[answer] + number % 20
        picture = root / split / f"COCO_{split}_{number:012}.jpg"
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(picture)
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained in this process on dark and bright pictures."""
    folder = tmp_path_factory.mktemp("trained")
    write_shades(folder / "vqav2", "train2014", 40, 0)
    write_shades(folder / "vqav2", "val2014", 20, 200)
    ingest(Job(source="vqav2", root=folder / "vqav2"), folder / "catalog")
    tokenizer = make_tokenizer(folder / "tok")
    mixture = Mixture.model_validate(
        {
            "name": "shades",
            "budget": {"epochs": 8},
            "sources": [
                {"source": "vqav2", "weight": 1, "max_epochs": 8, "where": "split = 'train'"}
            ],
            "encoder": {"tokenizer": tokenizer},
            "image": {"size": SIDE, "tokens": VISUAL},
            "packing": {"tokens": 256, "packs_per_step": 2},
        }
    )
    encode(Catalog.open(folder / "catalog"), mixture.encoder)
    plan = Plan.build(Catalog.open(folder / "catalog"), mixture)
    config = RunConfig.model_validate(
        values(catalog=folder / "catalog", output=folder / "run", plan=plan.id)
    )
    model = CuveeModel.build(config, POLICY, vocabulary_of(tokenizer))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    threads = torch.get_num_threads()
    # Matrices this small are slower on two cores than on one.
    torch.set_num_threads(1)
    for batch in PlanLoader(plan, workers=0):
        optimizer.zero_grad()
        (model(batch) / batch.loss_tokens).backward()
        optimizer.step()
    torch.set_num_threads(threads)
    model.save(config.output / "model")
    shutil.copytree(tokenizer, config.output / "model" / "tokenizer")
    (config.output / "run.yaml").write_text(config.dump())
    return config.output


def test_seeing_beats_being_blind_and_always_saying_the_same(run: Path) -> None:
    result = evaluate(run, "val").scores["sources"]["vqav2"]
    assert result["model"]["accuracy"] == 1.0
    assert result["blind"]["accuracy"] == result["majority"]["accuracy"] == 0.5


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int8-dynamic", "int4"])
def test_a_question_about_a_file_is_answered_in_any_precision(
    run: Path, tmp_path: Path, precision: Precision
) -> None:
    if precision.startswith("int8"):
        pytest.importorskip("torchao")
    question = Catalog.open(run.parent / "catalog").samples().collect()["messages"][0][0]["content"]
    for answer, shade in SHADES.items():
        picture = tmp_path / f"{answer}.png"
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(picture)
        reply = ask(run, picture, question.removeprefix("<image>").strip(), precision=precision)
        assert (reply.text, reply.boxes) == (answer, ())


def test_smaller_weights_are_scored_beside_the_whole_ones(run: Path) -> None:
    whole, small = evaluate(run, "val"), evaluate(run, "val", precision="int4")
    assert small.folder == whole.folder.with_name("val-int4")
    assert small.scores["split"] == "val-int4"
    assert small.scores["sources"]["vqav2"]["model"]["accuracy"] == 1.0
    assert evaluate(run, "val").answered == evaluate(run, "val", precision="int4").answered == ()


@pytest.mark.parametrize("precision", ["bf16", "int8", "int8-dynamic", "int4"])
def test_smaller_weights_take_less_and_stay_near(run: Path, precision: Precision) -> None:
    if precision.startswith("int8"):
        pytest.importorskip("torchao")
    layers = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 30), nn.Linear(30, 16))
    expected, whole = layers(torch.ones(3, 2, 64)), weight_bytes(layers)
    quantise(layers, precision)
    kind = torch.bfloat16 if precision in ("bf16", "int4") else torch.float32
    found = layers(torch.ones(3, 2, 64, dtype=kind)).float()
    assert found.sub(expected).norm() < 0.2 * expected.norm()
    share = {"bf16": 0.5, "int8": 0.3, "int8-dynamic": 0.3, "int4": 0.35}[precision]
    assert weight_bytes(layers) < share * whole + 400


def test_boxes_of_an_answer_are_drawn(run: Path, tmp_path: Path) -> None:
    picture, out = tmp_path / "picture.jpg", tmp_path / "out.png"
    tags = Image.Exif()
    tags[0x0112] = 6  # stands on its side
    Image.new("RGB", (40, 30), "white").save(picture, exif=tags)
    said = Answer(text="it is [0.500,0.500,1.000,1.000]", blind=None)
    with mock.patch.object(Answerer, "_generate", return_value=[said]):
        reply = ask(run, picture, "where?")
    assert reply.boxes == ((15.0, 20.0, 30.0, 40.0),)
    draw(picture, reply.boxes, out)
    drawn = Image.open(out)
    assert drawn.size == (30, 40)
    assert drawn.getpixel((15, 30)) != (255, 255, 255)
    assert drawn.getpixel((5, 5)) == drawn.getpixel((22, 30)) == (255, 255, 255)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match="is no picture"):
        ask(run, tmp_path / "text.jpg", "?")
    with pytest.raises(UserError, match="no such file"):
        ask(run, tmp_path / "missing.jpg", "?")
