"""Connectors side by side on the demo's data: what each costs, and what a run with it learns.

    python -m tests.benchmarks.connectors FOLDER [samples] [name ...]

Every connector gets the demo's towers, recipe, samples and learning rate. Packs are as much longer as
their pictures have more visual tokens, so all runs take about as many steps. Runs that are finished
are kept: run it again with other names to add to the table; with 0 samples it prints only what the
connectors cost. Step times are of one process on one thread, forward and backward of the same packs,
rounds of all connectors interleaved.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter
from rich.console import Console

from flows.demo.canvas import SIDE
from flows.demo.flow import SPLIT
from flows.demo.releases import write_releases
from flows.demo.settings import FULL, PATCH, write_files, write_run, write_tokenizer
from flows.ingest import run_ingest
from flows.plan import plan_flow
from model.config import RunConfig
from model.connector.config import Connector
from model.evaluate import evaluate
from model.language import vocabulary_of
from model.launch import launch
from model.metrics import METRICS
from model.throughput import connector_cost
from model.vlm import CuveeModel
from pipeline.jobs import jobs_of_file
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy

SAMPLES = 73_000
"""A third of the demo's."""
CONNECTORS: dict[str, dict[str, Any]] = {
    "pixel shuffle 3 x 3": {"kind": "mlp", "merge": 3},
    "merged 3 x 3, linear": {"kind": "linear", "merge": 3},
    "region 3 x 3": {"kind": "region", "merge": 3},
    "resampler 2 x 2": {"kind": "resampler", "grid": 2},
    "perceiver, 3 layers": {"kind": "perceiver", "queries": 4},
    "Q-Former, 4 layers": {"kind": "qformer", "queries": 4, "width": 192, "heads": 4},
    "pixel shuffle 2 x 2": {"kind": "mlp", "merge": 2},
    "MLP": {"kind": "mlp", "merge": 1},
    "linear": {"kind": "linear", "merge": 1},
}
TIMED = 600
"""Samples of a plan that only times steps."""
SOURCES = ("vqav2", "textvqa", "refcoco", "docvqa")
PACK, FEWEST = 256, 4
"""Tokens of a pack of the demo, and its visual tokens a picture."""
A_PACK = 15
"""Samples in a pack of the demo."""
STEPS, ROUNDS = 3, 5
"""Steps of a round of timing, and how many rounds."""


def prepare(folder: Path) -> None:
    """Write the demo's releases and read them into a catalog, unless that is done."""
    data = folder / "data"
    if not (folder / "catalog" / "cuvee.json").exists():
        write_releases(data, FULL.size, lambda done, total, name: None)
        write_tokenizer(data / "tokenizer", FULL.size, FULL.vocabulary)
        write_files(folder, FULL)
        catalog, jobs = jobs_of_file(folder / "cuvee.yaml")
        assert run_ingest(catalog, jobs, console=Console(quiet=True), brief=True)


def planned(folder: Path, name: str, samples: int) -> tuple[Plan, RunConfig]:
    """Return a connector's plan and run file; the demo's but for the connector and its tokens."""
    write_files(folder, replace(FULL, samples=samples))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    connector = TypeAdapter[Connector](Connector).validate_python(CONNECTORS[name])
    tokens = int(connector.tokens(SIDE // PATCH))
    recipe["image"]["tokens"] = tokens
    recipe["packing"]["tokens"] = PACK + A_PACK * (tokens - FEWEST)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    plan: Plan = plan_flow.fn(folder / "catalog", Mixture.load(folder / "recipe.yaml"))
    write_run(folder, FULL, plan)
    values = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    words = name.replace(",", "").replace(" ", "-").lower()
    values |= {"connector": CONNECTORS[name], "output": f"runs/{words}-{samples}"}
    (folder / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return plan, RunConfig.load(folder / "run.yaml")


def step_times(sides: Mapping[str, tuple[Plan, RunConfig]]) -> dict[str, tuple[float, Any]]:
    """Return the milliseconds of a step and the model of each connector."""
    torch.set_num_threads(1)
    models, batches = {}, {}
    for name, (plan, config) in sides.items():
        vocabulary = vocabulary_of(Path(config.catalog).parent / "data" / "tokenizer")
        policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
        models[name] = CuveeModel.build(config, policy, vocabulary).train()
        batches[name] = [batch for batch, _ in zip(PlanLoader(plan), range(STEPS), strict=False)]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            began = perf_counter()
            for batch in batches[name]:
                with torch.autocast("cpu", torch.bfloat16):
                    model(batch).backward()
                model.zero_grad(set_to_none=True)
            times[name].append(1000 * (perf_counter() - began) / STEPS)
    # The first round warms up.
    return {name: (median(times[name][1:]), models[name]) for name in sides}


def learnt(config: RunConfig) -> tuple[int, float, dict[str, float]]:
    """Train a run, unless that is done; return its steps, its last loss and its scores."""
    if not (config.output / "model" / "cuvee.json").exists():
        assert launch(config, None, Console(quiet=True)) == 0
    lines = (config.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [float(json.loads(line)["loss"]) for line in lines]
    last = losses[-len(losses) // 20 :]
    found = evaluate(config.output, SPLIT, blind=False).scores["sources"]
    scores = {s: found[s]["model"][METRICS[found[s]["metric"]].measure] for s in SOURCES}
    return len(losses), sum(last) / len(last), scores


def main() -> None:
    """Train what is missing and print the table."""
    folder, words = Path(sys.argv[1]).absolute(), sys.argv[2:]
    samples = int(words.pop(0)) if words and words[0].isdigit() else SAMPLES
    prepare(folder)
    # To time steps, a plan of some steps is enough.
    sides = {name: planned(folder, name, samples or TIMED) for name in words or CONNECTORS}
    trained = {}
    for name, (_, config) in sides.items() if samples else ():
        trained[name] = learnt(config)
        print(name, *trained[name], flush=True)
    heads = ["tokens", "parameters", "MFLOP", "ms a step"]
    if trained:
        heads += ["steps", "loss", *SOURCES]
        print(f"\n{samples:,} samples a run; scores in percent on `{SPLIT}`\n")
    print(f"| connector | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    for name, (milliseconds, model) in step_times(sides).items():
        cost = connector_cost(model)
        cells = [
            f"{cost.tokens}",
            f"{cost.parameters:,}",
            f"{cost.flops / 1e6:.1f}",
            f"{milliseconds:.0f}",
        ]
        if name in trained:
            steps, loss, scores = trained[name]
            shown = [f"{100 * scores[source]:.1f}" for source in SOURCES]
            cells += [f"{steps:,}", f"{loss:.2f}", *shown]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
