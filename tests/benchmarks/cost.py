"""How the work of a language model grows with a sample's length: what `language_cost` is fitted to.

    python -m tests.benchmarks.cost [width]

A small Qwen2-like model takes training steps on rows of samples of one length; seconds a token are fitted
by a + b x length. a / b is the length at which attention costs as much as all else: `ATTENTION` is that
ratio for a model 2,048 wide, and grows with the width. Printed beside the arithmetic of Kaplan et al.
(arXiv:2001.08361): 24 d^2 operations a token and layer, and 4 d for each token it attends to, on
average half of the sample: 12 d.
"""

import sys
from statistics import median
from time import process_time

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from pipeline.packing import ATTENTION, language_cost

LENGTHS = (128, 512, 1024, 2048, 4096)
ROW = 4_096
"""Tokens of a row: as many samples of one length as fit."""
ROUNDS = 5


def seconds(model: Qwen2ForCausalLM, length: int) -> float:
    """Return the CPU seconds of a step, a token, on samples of this length."""
    ids = torch.randint(0, 500, (ROW // length, length))
    started = process_time()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)
    return (process_time() - started) / ids.numel()


def main() -> None:
    """Print the table and the fit."""
    width = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    torch.manual_seed(0)
    # CPU seconds of one thread: waiting threads would count as work.
    torch.set_num_threads(1)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=ROW,
    )
    model = Qwen2ForCausalLM(config)
    model.set_attn_implementation("sdpa")
    seconds(model, LENGTHS[0])
    times: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(ROUNDS):
        for length in LENGTHS:
            times[length].append(seconds(model, length))
    measured = np.array([median(times[length]) for length in LENGTHS])
    lengths = np.array(LENGTHS, np.float64)
    slope, start = np.polyfit(lengths, measured, 1)
    fitted = start + slope * lengths
    print("| length | microseconds a token | fitted |\n| ---: | ---: | ---: |")
    for length, found, line in zip(LENGTHS, measured, fitted, strict=True):
        print(f"| {length:,} | {found * 1e6:.2f} | {line * 1e6:.2f} |")
    equal = start / slope
    print(
        f"\nwidth {width}: attention costs as much as all else at {equal:,.0f} tokens, "
        f"{equal / width:.1f} times the width; `language_cost` has {ATTENTION:,}, "
        f"{ATTENTION / 2048:.1f} times 2,048; worst deviation of the fit "
        f"{np.abs(fitted / measured - 1).max():.1%}"
    )
    whole = language_cost(np.array([8192]))[0] / 8192
    print(f"a sample of 8,192 tokens costs {whole:.2f} times as much a token as the shortest")


if __name__ == "__main__":
    main()
