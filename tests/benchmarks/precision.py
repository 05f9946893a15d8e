"""Smaller weights: size, speed and score of a finished run in each precision.

    python -m tests.benchmarks.precision RUN SPLIT [QUESTIONS]

Speed is processor seconds of answering, loading apart; scores are those of `cuvee eval --precision`.
"""

import sys
from pathlib import Path
from time import process_time
from typing import Any, get_args

import torch
from torch import nn

from model.answer import Answerer
from model.evaluate import evaluate
from model.judge import Answer
from model.quantise import Precision, quantise, weight_bytes
from model.vlm import CuveeModel


def main() -> None:
    """Print a table with a line a precision."""
    run, split = Path(sys.argv[1]), sys.argv[2]
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else None
    torch.set_num_threads(1)
    spent = 0.0
    generate = Answerer._generate

    def timed(*given: Any) -> list[Answer]:
        nonlocal spent
        began = process_time()
        said = generate(*given)
        spent += process_time() - began
        return said

    timing: Any = Answerer
    timing._generate = timed
    print("| precision | weights MiB | in linear layers MiB | questions a s | scores |")
    print("| --- | ---: | ---: | ---: | --- |")
    for precision in get_args(Precision):
        spent = 0.0
        found = evaluate(run, split, limit=limit, blind=False, precision=precision)
        results = found.scores["sources"]
        assert found.answered == tuple(results), "answered before: remove the run's folder `eval`"
        questions = sum(result["questions"] for result in results.values())
        model = CuveeModel.load(run / "model")
        quantise(model, precision)
        whole = {
            id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
        }
        embedded = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) in whole)
        size = weight_bytes(model)
        scores = ", ".join(
            f"{source} {100 * result['model'][result['measure']]:.1f}"
            for source, result in results.items()
        )
        print(
            f"| {precision} | {size / 2**20:.2f} | {(size - embedded) / 2**20:.2f} | "
            f"{questions / spent:,.0f} | {scores} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
