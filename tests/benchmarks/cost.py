"""How the work of a language model grows with a sample's length: what `language_cost` is calibrated by.

    python -m tests.benchmarks.cost [width, or a model's folder] [device]

Two layers of the model take training steps on rows of samples of one length; seconds a token are fitted by
a + b x length, each length weighed alike. a / b is the length at which attention costs as much as all else;
the last line printed goes into a recipe. Beside it stands the arithmetic of Kaplan et al.
(arXiv:2001.08361): 24 d^2 operations a token and layer, and 4 d for each token it attends to, on average
half of the sample, so that a / b is 12 d. The vocabulary is made small: its work is not of the layers.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen2Config

from pipeline.packing import ATTENTION, language_cost

LENGTHS = (128, 512, 1024, 2048, 4096)
ROW = 4_096
"""Tokens of a row: as many samples of one length as fit."""
ROUNDS = 5
LAYERS = 2
VOCABULARY = 512

Floats = NDArray[np.float64]


def configuration(what: str) -> PretrainedConfig:
    """Return the configuration of a Qwen2-like model of this width, or of a folder's language model."""
    if not what.isdigit():
        found: PretrainedConfig = AutoConfig.from_pretrained(Path(what)).get_text_config()
        found.num_hidden_layers, found.vocab_size = LAYERS, VOCABULARY
        found.pad_token_id = found.bos_token_id = found.eos_token_id = None
        return found
    width = int(what)
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=ROW,
    )


def seconds(model: torch.nn.Module, length: int, device: torch.device) -> float:
    """Return the seconds of a step, a token, on samples of this length: the processor's, or a GPU's."""
    ids = torch.randint(0, VOCABULARY, (ROW // length, length), device=device)
    clock: Callable[[], float] = process_time if device.type == "cpu" else perf_counter
    started = clock()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = clock() - started
    model.zero_grad(set_to_none=True)
    return taken / ids.numel()


def fit(lengths: Floats, measured: Floats) -> tuple[float, float, Floats]:
    """Return start, slope and the line, of least squares in parts of what was measured.

    >>> start, slope, line = fit(np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0]))
    >>> round(start, 9), round(slope, 9)
    (2.0, 1.0)
    """
    slope, start = np.polyfit(lengths, measured, 1, w=1 / measured)
    return float(start), float(slope), start + slope * lengths


def main() -> None:
    """Print the table, the fit and its error, and the line for a recipe."""
    what = sys.argv[1] if len(sys.argv) > 1 else "256"
    device = torch.device(sys.argv[2] if len(sys.argv) > 2 else "cpu")
    torch.manual_seed(0)
    # CPU seconds of one thread: waiting threads would count as work.
    torch.set_num_threads(1)
    config = configuration(what)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config,
        attn_implementation="sdpa",
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    ).to(device)
    seconds(model, LENGTHS[0], device)
    times: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(ROUNDS):
        for length in LENGTHS:
            times[length].append(seconds(model, length, device))
    measured = np.array([median(times[length]) for length in LENGTHS])
    start, slope, fitted = fit(np.array(LENGTHS, np.float64), measured)
    print("| length | microseconds a token | fitted | off by |\n| ---: | ---: | ---: | ---: |")
    for length, found, line in zip(LENGTHS, measured, fitted, strict=True):
        print(f"| {length:,} | {found * 1e6:.2f} | {line * 1e6:.2f} | {line / found - 1:+.1%} |")
    if slope <= 0:
        print("\nlonger samples cost no more a token: too short or too noisy to calibrate by")
        return
    equal, width = round(start / slope), int(config.hidden_size)
    off = fitted / measured - 1
    print(
        f"\nwidth {width:,}: attention costs as much as all else at {equal:,} tokens, "
        f"{equal / width:.1f} times the width; arithmetic says 12, and a recipe without the line below "
        f"has {ATTENTION:,}. Error of the fit: {np.sqrt((off**2).mean()):.1%} on average, "
        f"{np.abs(off).max():.1%} at most"
    )
    whole = language_cost(np.array([8192]), equal)[0] / 8192
    print(f"a sample of 8,192 tokens costs {whole:.2f} times as much a token as the shortest")
    print(f"\npacking: {{attention: {equal}}}  # beside the recipe's other values")


if __name__ == "__main__":
    main()
