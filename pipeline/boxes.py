"""Boxes as text, in the conventions that published models write and read.

Sources: Pix2seq (arXiv:2109.10852), Shikra (arXiv:2306.15195), Kosmos-2 (arXiv:2306.14824), Qwen-VL
(arXiv:2308.12966), Qwen2-VL (arXiv:2409.12191), Qwen2.5-VL (arXiv:2502.13923), InternVL
(arXiv:2404.16821), All-Seeing V2 (arXiv:2402.19474), MiniGPT-v2 (arXiv:2310.09478), CogVLM
(arXiv:2311.03079), Ferret (arXiv:2310.07704), PaliGemma (arXiv:2407.07726), SVIT
(arXiv:2307.04087), LLaVA-1.5 (arXiv:2310.03744). Where a paper leaves the rounding open, the rule
is the one that its published reader inverts best: Qwen-VL divides by 999, MiniGPT-v2 by 100.

How far a coordinate inside the picture comes back from where it was, at most, in bins; a bin is a step
between two numbers, along the padded side where a convention pads to a square:

| convention | bins a side | error | why more than half |
| --- | --- | --- | --- |
| pix2seq, qwen-vl | 999 | 1/2 | |
| shikra, shikra-square, shikra-tokens, qwen2-vl, qwen3-vl, internvl, ferret, svit | 1000 | 1/2 | |
| minigpt-v2, llava | 100 | 1/2 | |
| paligemma | 1023 | 1/2 | |
| cogvlm | 1000 | 1/2; 1 at the far edge | three digits end at 999 |
| qwen2.5-vl | pixels of the resized side | 1/2; 1 at the far edge | the last pixel is side - 1 |
| kosmos-2 | 32 | 1/2; 1 where the corners share a row or column of cells | the processor gives whole cells |
| as-v2, as-v2-square | 999 | 1 | the release rounds down and divides by 999 |

The last four keep their published rules: a reader that took the middle of a bin would put other boxes
into the catalog than their authors' code does.
Pix2emb of NExT-Chat (arXiv:2311.04498) has no text: what is written here stands for a location token
(`pipeline.spots`), and is read back from answers.
"""

import re

from pipeline.boxtext import BoxFormat, Found, numbers, tokens
from pipeline.grids import Box, Cells, Fractions, Resized

__all__ = ["BOXES", "Box", "BoxFormat", "Found"]

_LIST = numbers()
_REF = "<ref>{phrase}</ref>{boxes}"

_THOUSANDTHS = Fractions(bins=1000)
BOXES: dict[str, BoxFormat] = {
    box.name: box
    for box in (
        BoxFormat(
            name="pix2seq",
            grid=Fractions(bins=999, y_first=True, shift=1000),
            box="{} {} {} {}",
            around=("", " ", ""),
            pattern=re.compile(r"\b" + r"\s+".join([r"(1\d{3})"] * 4) + r"\b"),
            phrase="{boxes} {phrase}",
        ),
        BoxFormat(
            name="shikra",
            grid=_THOUSANDTHS,
            box="{},{},{},{}",
            around=("[", ";", "]"),
            pattern=numbers(r"[\[(;]", r"[\]);]"),
            phrase="{phrase}{boxes}",
            decimals=3,
        ),
        BoxFormat(
            name="shikra-square",
            grid=Fractions(bins=1000, square=True),
            box="{},{},{},{}",
            around=("[", ";", "]"),
            pattern=numbers(r"[\[(;]", r"[\]);]"),
            phrase="{phrase}{boxes}",
            decimals=3,
        ),
        BoxFormat(
            name="shikra-tokens",
            grid=_THOUSANDTHS,
            box="<bin_{}> <bin_{}> <bin_{}> <bin_{}>",
            around=("<b_st>", "<b_sep>", "<b_ed>"),
            pattern=tokens(r"<bin_(\d{1,4})>"),
        ),
        BoxFormat(
            name="kosmos-2",
            grid=Cells(bins=32),
            box="<patch_index_{:0>4}><patch_index_{:0>4}>",
            around=("<object>", "</delimiter_of_multi_objects/>", "</object>"),
            pattern=tokens(r"<patch_index_(\d{4})>", 2),
            phrase="<phrase>{phrase}</phrase>{boxes}",
        ),
        BoxFormat(
            name="qwen-vl",
            grid=Fractions(bins=999),
            box="({},{}),({},{})",
            around=("<box>", "</box><box>", "</box>"),
            pattern=_LIST,
            phrase=_REF,
        ),
        BoxFormat(
            name="qwen2-vl",
            grid=_THOUSANDTHS,
            box="({},{}),({},{})",
            around=("<|box_start|>", "<|box_end|><|box_start|>", "<|box_end|>"),
            pattern=_LIST,
            phrase="<|object_ref_start|>{phrase}<|object_ref_end|>{boxes}",
        ),
        BoxFormat(
            name="qwen2.5-vl",
            grid=Resized(),
            box="[{}, {}, {}, {}]",
            around=('{"bbox_2d": ', '}, {"bbox_2d": ', "}"),
            pattern=_LIST,
            phrase='{{"bbox_2d": {box}, "label": {quoted}}}',
            each=", ",
        ),
        BoxFormat(
            name="qwen3-vl",
            grid=_THOUSANDTHS,
            box="[{}, {}, {}, {}]",
            around=('{"bbox_2d": ', '}, {"bbox_2d": ', "}"),
            pattern=_LIST,
            phrase='{{"bbox_2d": {box}, "label": {quoted}}}',
            each=", ",
        ),
        BoxFormat(
            name="internvl",
            grid=_THOUSANDTHS,
            box="[{}, {}, {}, {}]",
            around=("<box>[", ", ", "]</box>"),
            pattern=_LIST,
            phrase=_REF,
        ),
        BoxFormat(
            name="as-v2",
            grid=Fractions(bins=999, floor=True),
            box="[{}, {}, {}, {}]",
            around=("<box>[", ", ", "]</box>"),
            pattern=_LIST,
            phrase=_REF,
        ),
        BoxFormat(
            name="as-v2-square",
            grid=Fractions(bins=999, floor=True, square=True),
            box="[{}, {}, {}, {}]",
            around=("<box>[", ", ", "]</box>"),
            pattern=_LIST,
            phrase=_REF,
        ),
        BoxFormat(
            name="minigpt-v2",
            grid=Fractions(bins=100),
            box="{{<{}><{}><{}><{}>}}",
            around=("", "<delim>", ""),
            pattern=tokens(r"<(\d{1,4})>"),
            phrase="<p>{phrase}</p> {boxes}",
        ),
        BoxFormat(
            name="cogvlm",
            grid=Fractions(bins=1000, top=999),
            box="{:0>3},{:0>3},{:0>3},{:0>3}",
            around=("[[", ";", "]]"),
            pattern=numbers(r"[\[(;]", r"[\]);]"),
        ),
        BoxFormat(
            name="ferret",
            grid=_THOUSANDTHS,
            box="[{}, {}, {}, {}]",
            around=("", " ", ""),
            pattern=_LIST,
        ),
        BoxFormat(
            name="paligemma",
            grid=Fractions(bins=1023, y_first=True),
            box="<loc{:0>4}><loc{:0>4}><loc{:0>4}><loc{:0>4}>",
            around=("", " ; ", ""),
            pattern=tokens(r"<loc(\d{4})>"),
            phrase="{box} {phrase}",
            each=" ; ",
        ),
        BoxFormat(
            name="svit",
            grid=_THOUSANDTHS,
            box="[{}, {}, {}, {}]",
            around=("", " ", ""),
            pattern=_LIST,
            phrase="<st>{phrase}<ed> {boxes}",
            decimals=3,
            zeros=False,
        ),
        BoxFormat(
            name="llava",
            grid=Fractions(bins=100, square=True),
            box="[{}, {}, {}, {}]",
            around=("", " ", ""),
            pattern=_LIST,
            decimals=2,
            zeros=False,
        ),
        BoxFormat(
            name="pix2emb",
            grid=Fractions(bins=100_000),
            box="<loc>{},{},{},{}</loc>",
            around=("", " ", ""),
            pattern=re.compile(r"<loc>\s*" + r"\s*,\s*".join([r"(\d*\.?\d+)"] * 4) + r"\s*</loc>"),
            decimals=5,
        ),
    )
}
"""Convention -> how it writes and reads boxes."""
