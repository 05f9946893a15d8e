"""`cuvee plan`: what is left of a plan, differences, shipped recipes, and one clear message on bad use."""

from pathlib import Path

import yaml

from catalog import Catalog
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.plan import Plan
from tests.flows.test_cli import cuvee
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer


def write_recipe(folder: Path, weight: int) -> Path:
    file = folder / f"recipe{weight}.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "name": "first",
                "budget": {"epochs": 1},
                "sources": [
                    {"source": "vqav2", "weight": weight, "turns_per_image": 2},
                    {"source": "alpaca", "weight": 1},
                ],
                "encoder": {"tokenizer": "tok"},
                "image": {"size": 32, "tokens": 4},
                "packing": {"tokens": 256, "packs_per_step": 2},
            }
        )
    )
    return file


def test_a_plan_is_gone_on_with_and_compared(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    ingest(Job(source="vqav2", root=write_vqav2(tmp_path / "vqav2", questions=80)), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(tmp_path / "alpaca", 60)), catalog)
    make_tokenizer(tmp_path / "tok")
    said = cuvee("plan", write_recipe(tmp_path, 2), "--catalog", catalog)
    assert "visual tokens saved" in said
    [old] = (catalog / "plans").glob("plan=*")
    first = Plan.open(old).id
    words = ("--catalog", catalog, "--from-step", 1, "--of", first[:12])
    said = cuvee("plan", write_recipe(tmp_path, 1), *words)
    assert f"from step 1 of plan {first[:12]}" in said
    [new] = {path.name for path in (catalog / "plans").glob("plan=*")} - {old.name}
    second = new.removeprefix("plan=")
    said = cuvee("plan", "--diff", first[:12], second[:12], "--catalog", catalog)
    assert "recipe.sources.vqav2.weight" in said
    assert "samples out:" in said
    assert Plan.open(Catalog.open(catalog).path, second).header["of"] == first
    lacking = cuvee(
        *("plan", "minicpm-llama3-v-2.5-part2", "--tokenizer", tmp_path / "tok"),
        *("--catalog", catalog),
        code=1,
    )
    assert "the catalog lacks" in lacking
    assert "add --tokenizer DIR" in cuvee(
        "plan", "more-long-text-vqa-ocr", "--catalog", catalog, code=1
    )
    assert "say what to plan" in cuvee("plan", "--catalog", catalog, code=1)
