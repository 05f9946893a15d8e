"""Which metric judges a source, what its items hold, and the file its benchmark takes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog.record import IMAGE

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
    """Row -> what the metric compares with; None where the release hides it."""
    submission: Callable[[Row, str], dict[str, Any]]
    """Row and answer -> one entry of the benchmark's prediction file."""
    types: Mapping[str, str] = field(default_factory=dict)
    """What scores are grouped by: name -> place in the sample's `extra`, as a JSON path."""
    boxes: bool = False
    """Whether the answer is a box."""


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


def _answers(row: Row) -> list[str] | None:
    return list(row["answers"]) if row["answers"] else None


def _answers_or_said(row: Row) -> list[str] | None:
    text = said(row)
    return _answers(row) or ([text] if text is not None else None)


def _number(native_id: str) -> int | str:
    return int(native_id) if native_id.isascii() and native_id.isdigit() else native_id


def _by_question_id(row: Row, answer: str) -> dict[str, Any]:
    return {"question_id": _number(row["native_id"]), "answer": answer}


def _by_rrc_id(row: Row, answer: str) -> dict[str, Any]:
    return {"questionId": _number(row["native_id"]), "answer": answer}


def _with_box(row: Row, answer: str) -> dict[str, Any]:
    size = [row["heights"][0], row["widths"][0]]
    return {"answer": answer, "gt_bbox": list(true_box(row) or ()), "hw": size}


_REFCOCO = Benchmark(
    metric="refcoco", longest=48, reference=true_box, submission=_with_box, boxes=True
)
BENCHMARKS: dict[str, Benchmark] = {
    "vqav2": Benchmark(
        metric="vqa_accuracy",
        longest=16,
        reference=_answers,
        submission=_by_question_id,
        types={"question_type": "$.question_type", "answer_type": "$.answer_type"},
    ),
    "textvqa": Benchmark(
        metric="textvqa_accuracy", longest=16, reference=_answers, submission=_by_question_id
    ),
    "docvqa": Benchmark(metric="anls", longest=100, reference=_answers, submission=_by_rrc_id),
    "refcoco": _REFCOCO,
    "refcoco+": _REFCOCO,
    "refcocog": _REFCOCO,
}
"""Source -> its benchmark; the formats are those of the official servers and scripts."""
OTHER = Benchmark(
    metric="exact_match", longest=64, reference=_answers_or_said, submission=_by_question_id
)
"""Judges every other source, against its answers or the last answer of its conversation."""
CHAT = ("instruction", "text")
"""Families that are judged only when they are asked for by name: free text rarely matches exactly."""


def benchmark_of(source: str) -> Benchmark:
    """Return how a source is judged."""
    return BENCHMARKS.get(source, OTHER)


def submission(source: str, rows: Sequence[Row], answers: Sequence[str]) -> str:
    """Return the prediction file of a benchmark: a JSON list, one entry a question."""
    entry = benchmark_of(source).submission
    entries = [entry(row, answer) for row, answer in zip(rows, answers, strict=True)]
    return json.dumps(entries, ensure_ascii=False)
