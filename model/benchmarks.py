"""Which metric judges a source, how it is asked, and what its items hold."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from string import ascii_uppercase
from typing import Any

import polars as pl

from catalog import Catalog
from catalog.record import IMAGE
from model.metrics.mmbench import ROTATION
from pipeline.masks import encode
from pipeline.spots import mask_of

_COCO = re.compile(r"(?:COCO_\w+_0*|image )(\d+)(?:\.jpg)?")
Row = Mapping[str, Any]
"""A row of `samples` with its `source`."""
SAMPLE_COLUMNS = (
    "source",
    "sample_id",
    "split",
    "native_id",
    "task",
    "n_images",
    "image_ids",
    "widths",
    "heights",
    "messages",
    "answers",
    "choices",
    "answer_index",
    "regions",
)
"""Columns of `samples` that an evaluation reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """How the answers to one source are judged."""

    metric: str
    """Name in `METRICS`."""
    longest: int
    """New tokens an answer may have."""
    reference: Callable[[Row], Any]
    """Row -> what the metric compares with; None where the release hides it, or leaves the question out."""
    suffix: str = ""
    """What harnesses add to the question, on a line of its own."""
    extras: Callable[[Row], dict[str, Any]] = lambda row: {}
    """Row -> what the metric needs beside prediction and reference."""
    types: Mapping[str, str] = field(default_factory=dict)
    """What scores are grouped by: name -> place in the sample's `extra`, as a JSON path."""
    boxes: bool = False
    """Whether the answer is a box."""
    together: Callable[[Row], object] | None = None
    """Row -> what rows that are judged together share: a limit takes all of them, or none."""
    once: bool = False
    """Whether only the first of such rows is asked, because its references are those of all."""


def question(row: Row) -> str:
    """Return the text of a row's last question, without the marks of its pictures."""
    asked = [m["content"] for m in row["messages"] if m["role"] == "user"]
    return asked[-1].replace(IMAGE, "").strip() if asked else ""


def said(row: Row) -> str | None:
    """Return what the release answers to a row's last question, if it does."""
    last = row["messages"][-1] if row["messages"] else None
    return last["content"] if last is not None and last["role"] == "assistant" else None


def true_box(row: Row) -> tuple[float, float, float, float] | None:
    """Return a row's first box, in pixels of its picture."""
    for region in row["regions"]:
        if region["box"] is not None and region["image"] == 0:
            x0, y0, x1, y1 = region["box"]
            return x0, y0, x1, y1
    return None


def true_mask(row: Row) -> str | None:
    """Return the mask of the region with a row's first box, as COCO's run lengths in JSON."""
    for region in row["regions"]:
        if region["box"] is not None and region["image"] == 0:
            drawn = region["polygons"] or region["rle"]
            return json.dumps(encode(mask_of(region, row))) if drawn else None
    return None


def picture_id(row: Row) -> str:
    """Return the id of a captioned row's picture in its release.

    >>> picture_id({"image": "COCO_val2014_000000000042.jpg", "native_id": "7"})
    '42'
    >>> picture_id({"image": None, "native_id": "image 7"}), picture_id({"image": "9a", "native_id": "7"})
    ('7', '9a')
    """
    own: str = row["image"] or row["native_id"]
    # Karpathy's older files name the picture's file; test files of COCO have pictures alone.
    found = _COCO.fullmatch(own)
    return found[1] if found else own


def _answers(row: Row) -> list[str] | None:
    return list(row["answers"]) if row["answers"] else None


def _answers_or_said(row: Row) -> list[str] | None:
    text = said(row)
    return _answers(row) or ([text] if text is not None else None)


def _balanced(row: Row) -> bool:
    return bool(row["is_balanced"] != "false")


def _gqa_item(row: Row) -> dict[str, Any]:
    program = {"program": json.loads(row["program"])} if row["program"] else {}
    return {"question": question(row), "is_balanced": _balanced(row), **program}


def _is_difficult(row: Row) -> bool:
    return bool(row["difficult_direct_answer"] == "true")


def _aokvqa_item(row: Row) -> dict[str, Any]:
    return {"difficult_direct_answer": _is_difficult(row)}


def _choices(row: Row) -> dict[str, Any]:
    return {"choices": row["choices"]}


def _scienceqa(row: Row) -> dict[str, Any]:
    return {"choices": row["choices"], "has_image": row["n_images"] > 0}


def _index_or_all(row: Row) -> int | list[str] | None:
    return _index(row) if row["choices"] else _answers(row)


def _letter_or_first(row: Row) -> str | None:
    index = _index(row)
    return _first(row) if index is None else ascii_uppercase[index]


def _yes_or_no(row: Row) -> str | None:
    first = _first(row)
    return None if first is None else first.strip().lower()


def _mmmu_item(row: Row) -> dict[str, Any]:
    kind = "multiple-choice" if row["choices"] else "open"
    return {"choices": row["choices"], "question_type": kind}


def _mathvista_item(row: Row) -> dict[str, Any]:
    digits = row["precision"]
    return {"choices": row["choices"], "precision": float(digits) if digits else None}


def _index(row: Row) -> int | None:
    index: int | None = row["answer_index"]
    return index


def _first(row: Row) -> str | None:
    return row["answers"][0] if row["answers"] else None


SHORT = "Answer the question using a single word or phrase."
UNSURE = "When the provided information is insufficient, respond with 'Unanswerable'.\n" + SHORT
LETTER = "Answer with the option's letter from the given choices directly."
DESCRIBE = "Provide a one-sentence caption for the provided image."

_REFCOCO = Benchmark(metric="refcoco", longest=48, reference=true_box, boxes=True)
_ANLS = Benchmark(metric="anls", longest=100, reference=_answers, suffix=SHORT)
_CAPTIONS = Benchmark(
    metric="caption",
    longest=48,
    reference=_answers,
    suffix=DESCRIBE,
    types={"image": "$.image_id"},
    together=picture_id,
    once=True,
)
_VQA_TYPES = {"question_type": "$.question_type", "answer_type": "$.answer_type"}
BENCHMARKS: dict[str, Benchmark] = {
    "vqav2": Benchmark(
        metric="vqa_accuracy",
        longest=16,
        reference=_answers,
        suffix=SHORT,
        types=_VQA_TYPES,
    ),
    "okvqa": Benchmark(
        metric="okvqa_accuracy",
        longest=16,
        reference=_answers,
        suffix=SHORT,
        types=_VQA_TYPES,
    ),
    "vizwiz": Benchmark(
        metric="vizwiz_accuracy",
        longest=16,
        reference=_answers,
        suffix=UNSURE,
        types={"answer_type": "$.answer_type"},
    ),
    "textvqa": Benchmark(
        metric="textvqa_accuracy",
        longest=16,
        reference=_answers,
        suffix=SHORT,
    ),
    "gqa": Benchmark(
        metric="gqa",
        longest=16,
        reference=lambda row: _first(row) if _balanced(row) else None,
        suffix=SHORT,
        extras=_gqa_item,
        types={
            "is_balanced": "$.isBalanced",
            "structural": "$.types.structural",
            "semantic": "$.types.semantic",
            "group": "$.groups.global",
            "program": "$.semantic",
        },
    ),
    "aokvqa": Benchmark(
        metric="aokvqa_direct",
        longest=16,
        reference=lambda row: None if _is_difficult(row) else _answers(row),
        suffix=SHORT,
        extras=_aokvqa_item,
        types={"difficult_direct_answer": "$.difficult_direct_answer"},
    ),
    "scienceqa": Benchmark(
        metric="scienceqa",
        longest=16,
        reference=_index,
        suffix=LETTER,
        extras=_scienceqa,
        types={"subject": "$.subject", "grade": "$.grade", "hint": "$.hint"},
    ),
    "ai2d": Benchmark(
        metric="ai2d",
        longest=16,
        reference=_index,
        suffix=LETTER,
        extras=_choices,
    ),
    "chartqa": Benchmark(
        metric="chartqa_relaxed",
        longest=32,
        reference=_answers,
        suffix=SHORT,
        types={"half": "$.human_or_augmented"},
    ),
    "ocrvqa": Benchmark(
        metric="ocrvqa",
        longest=32,
        reference=_answers,
        suffix=SHORT,
    ),
    "docvqa": _ANLS,
    "infographicvqa": _ANLS,
    "stvqa": _ANLS,
    "coco_captions": _CAPTIONS,
    "flickr30k": _CAPTIONS,
    "textcaps": _CAPTIONS,
    "refcoco": _REFCOCO,
    "refcoco+": _REFCOCO,
    "refcocog": _REFCOCO,
    "multimodal_ocr": Benchmark(
        metric="ocrbench",
        longest=64,
        reference=_answers,
        types={name: f"$.{name}" for name in ("type", "dataset_name", "image_path")},
    ),
    "mmbench": Benchmark(
        metric="mmbench_circular",
        longest=16,
        reference=_index,
        suffix=LETTER,
        extras=_choices,
        types={
            "index": "$.index",
            "hint": "$.hint",
            "category": "$.category",
            "l2-category": "$['l2-category']",
            "part": "$.split",
        },
        together=lambda row: int(row["index"]) % ROTATION,
    ),
    "mmmu": Benchmark(
        metric="mmmu",
        longest=32,
        reference=_index_or_all,
        suffix=LETTER,
        extras=_mmmu_item,
        types={"subject": "$.category"},
    ),
    "mathvista": Benchmark(
        metric="mathvista",
        longest=64,
        reference=_first,
        extras=_mathvista_item,
        types={
            name: f"$.{name}" for name in ("question_type", "answer_type", "precision", "grade")
        },
    ),
    "realworldqa": Benchmark(
        metric="realworldqa",
        longest=16,
        reference=_letter_or_first,
        extras=lambda row: {"question": question(row)},
        types={"index": "$.index"},
    ),
    "pope": Benchmark(
        metric="pope",
        longest=16,
        reference=_yes_or_no,
        suffix=SHORT,
        types={"category": "$.category"},
    ),
    "mme": Benchmark(
        metric="mme",
        longest=16,
        reference=_first,
        extras=lambda row: {"image": row["image_ids"][0]},
        types={"subtask": "$.category", "image_path": "$.image_path"},
        together=lambda row: (row["subtask"], row["image_ids"][0]),
    ),
}
"""Source -> its benchmark; `model.submissions` has the files they take.

The last ones are tables of VLMEvalKit, ingested as `{source: tsv, name: mmbench, root: …}`.
"""
OTHER = Benchmark(metric="exact_match", longest=64, reference=_answers_or_said)
"""Judges every other source, against its answers or the last answer of its conversation."""
CHAT = ("instruction", "text")
"""Families that are judged only when they are asked for by name: free text rarely matches exactly."""


def benchmark_of(source: str) -> Benchmark:
    """Return how a source is judged."""
    return BENCHMARKS.get(source, OTHER)


def rows_for(
    catalog: Catalog, source: str, split: str, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return what a split asks, in the catalog's order; limited, the samples with the lowest ids.

    A benchmark's `types` are columns of their own.
    """
    bench = benchmark_of(source)
    frame = (
        catalog.samples()
        .filter(pl.col("source") == source, pl.col("split") == split)
        .select(
            *SAMPLE_COLUMNS,
            *(
                pl.col("extra").str.json_path_match(path).alias(name)
                for name, path in bench.types.items()
            ),
        )
        .collect()
    )
    if bench.together is not None:
        return _grouped(frame.to_dicts(), bench.together, once=bench.once, limit=limit)
    if limit is not None and limit < len(frame):
        last = frame["sample_id"].sort()[limit - 1]
        frame = frame.filter(pl.col("sample_id") <= last)
    return frame.to_dicts()


def _grouped(
    rows: Sequence[dict[str, Any]],
    key: Callable[[Row], object],
    *,
    once: bool,
    limit: int | None,
) -> list[dict[str, Any]]:
    """Return whole groups of rows, or the first of each; at most `limit` rows, or one group."""
    groups: dict[object, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    if once:
        groups = {name: group[:1] for name, group in groups.items()}
    if limit is not None:
        ranked = sorted(groups, key=lambda name: min(row["sample_id"] for row in groups[name]))
        held = list(accumulate(len(groups[name]) for name in ranked))
        most = max(1, sum(count <= limit for count in held))
        kept = set(ranked[:most])
        groups = {name: group for name, group in groups.items() if name in kept}
    chosen = {row["sample_id"] for group in groups.values() for row in group}
    return [row for row in rows if row["sample_id"] in chosen]


def asked(row: Row, suffix: str) -> Row:
    """Return a row whose last question ends in a line of instruction.

    Where there are no options, no option's letter is asked for.

    >>> asked({"messages": [{"role": "user", "content": "Why?"}]}, "In a word.")["messages"]
    [{'role': 'user', 'content': 'Why?\\nIn a word.'}]
    """
    if suffix == LETTER and not row.get("choices"):
        suffix = SHORT
    turns = [dict(message) for message in row["messages"]]
    users = [turn for turn in turns if turn["role"] == "user"]
    if suffix and users:
        users[-1]["content"] += f"\n{suffix}"
    return {**row, "messages": turns}
