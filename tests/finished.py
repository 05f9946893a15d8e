"""A run folder as training leaves it, but with the weights the model was born with: fast to make."""

import json
import math
import shutil
from pathlib import Path

from catalog import Catalog
from model.config import RunConfig
from model.language import vocabulary_of
from model.vlm import CuveeModel
from pipeline.encode import encode
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from tests.model.models import POLICY, SIDE, VISUAL, values
from tests.official import write_alpaca, write_vqav2
from tests.tokenizer import make_tokenizer

DATA = Path(__file__).parent / "data"
STEPS = 40


def make_run(folder: Path) -> Path:
    """Write `catalog` (VQAv2 train and val, RefCOCO train and testA, Alpaca), a plan and `run`."""
    catalog = folder / "catalog"
    write_vqav2(folder / "vqav2", questions=16)
    write_vqav2(folder / "vqav2", split="val2014", questions=10, first=100)
    ingest(Job(source="vqav2", root=folder / "vqav2"), catalog)
    ingest(Job(source="refcoco", root=DATA / "refcoco"), catalog)
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 6)), catalog)
    tokenizer = make_tokenizer(folder / "tok")
    mixture = Mixture.model_validate(
        {
            "name": "try",
            "budget": {"epochs": 1},
            "sources": [
                {"source": "vqav2", "weight": 2, "where": "split = 'train'"},
                {"source": "alpaca", "weight": 1},
            ],
            "encoder": {"tokenizer": tokenizer},
            "image": {"size": SIDE, "tokens": VISUAL},
            "packing": {"tokens": 256, "packs_per_step": 2},
        }
    )
    encode(Catalog.open(catalog), mixture.encoder)
    plan = Plan.build(Catalog.open(catalog), mixture)
    run = folder / "run"
    config = RunConfig.model_validate(values(catalog=catalog, output=run, plan=plan.id))
    model = CuveeModel.build(config, POLICY, vocabulary_of(tokenizer))
    model.save(run / "model")
    shutil.copytree(tokenizer, run / "model" / "tokenizer")
    (run / "run.yaml").write_text(config.dump())
    lines = [
        {
            "step": step,
            "loss": 3 * math.exp(-step / 10) + 0.1,
            "lr": 1e-3,
            "tokens_per_second": 1000 + step,
            "stall": 0.01,
            "seconds": 0.5,
            "samples": 8,
            "tokens": 500,
        }
        for step in range(STEPS)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
