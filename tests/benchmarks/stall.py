"""How long a training loop waits for its batches: the loader's own report beside a small real model.

    python -m tests.benchmarks.stall [steps]

A ViT and a language model, both small, learn from the photographs of tests.benchmarks.end_to_end, on
one core; the loader's threads have the other. A step takes longer than its pictures take to decode, as
on a device: whatever the loop then waits is the loader's fault. The first step is not counted.
"""

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from model.config import RunConfig
from model.language import vocabulary_of
from model.vlm import CuveeModel
from pipeline.loader import PlanLoader
from tests.benchmarks.end_to_end import CORES, POLICY, make_plan
from tests.benchmarks.timing import Told, tell

RUN = {
    "catalog": "catalog",
    "output": "run",
    "vision": {
        "config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 14,
        }
    },
    "language": {
        "config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
        }
    },
    "connector": {"merge": 2},
}


def main() -> None:
    """Print one line."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), 46 * (steps + 1))
        words = vocabulary_of(Path(plan.header["tokenizer"]))
        model = CuveeModel.build(RunConfig.model_validate(RUN), POLICY, words)
        optimizer = torch.optim.AdamW(model.parameters())
        loader = PlanLoader(plan, workers=CORES)
        report = loader.report
        began = waited = 0.0
        ready = []
        for batch in loader:
            ready.append(report.depth)
            if batch.step == 1:
                began, waited = perf_counter(), report.stall
            loss = model(batch) / batch.loss_tokens
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds, stall = perf_counter() - began, report.stall - waited
    count = plan.steps - 1
    print(
        f"{count} steps of {seconds / count:.2f} s, loss {loss.item():.2f}: waited "
        f"{stall / count * 1000:.2f} ms a step, {stall / seconds:.2%} of the time (bar 1 %); "
        f"{sum(ready[1:]) / count:.1f} of {loader.prefetch} batches stood ready; "
        f"{report.samples_per_second:,.0f} samples and {report.pixels_per_second / 1e6:.1f} million "
        "pixels a second"
    )
    what = f"training, steps of {seconds / count:.2f} s"
    tell(
        Told(
            what=what,
            against="share of the time that it waits",
            ours=f"{stall / seconds:.2%}",
            bar="1 %",
        )
    )


if __name__ == "__main__":
    main()
