"""Answers of a source -> its figures beside those of the baselines, and one item a question."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from model.baselines import predict
from model.benchmarks import Row, benchmark_of, question, true_box, true_mask
from model.items import readable
from model.metrics import METRICS
from model.metrics.refcoco import read_box
from pipeline.masks import encode
from pipeline.spots import from_hex, painted

WHO = ("model", "blind", "majority")
"""Whose answers are scored: the model's, the model's on blanked pictures, the constant answer."""
SCORE = {"model": "score", "blind": "blind_score", "majority": "majority_score"}
"""Whose -> the item's field with their score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model said: texts without special tokens, else as generated."""

    text: str
    blind: str | None
    """What it says with every picture blanked to middle grey; None if not asked."""
    masks: tuple[str, ...] = ()
    """Of each location token, the cells over its box (`pipeline.spots`): their bits, as hex."""


def judge(
    source: str,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    constant: str | list[float] | None,
    boxes: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a source's figures and its items.

    Figures are None where there is nothing to compare with: hidden references, no blind answers, no
    training answers for the majority baseline.

    Args:
        source: decides metric and groups.
        rows: samples, with a column for each of the benchmark's `types`.
        answers: the model's, in the order of `rows`.
        constant: the baseline's answer, as `baseline` gives it.
        boxes: the convention the model writes boxes in.
    """
    bench = benchmark_of(source)
    metric = METRICS[bench.metric]
    taken = signature(metric.score).parameters
    judged: dict[str, list[dict[str, Any]]] = {name: [] for name in WHO}
    items = []
    for row, answer in zip(rows, answers, strict=True):
        said = {
            "model": answer.text,
            "blind": answer.blind,
            "majority": predict(constant, row),
        }
        reference = bench.reference(row)
        extras: dict[str, Any] = {name: row[name] for name in bench.types} | bench.extras(row)
        if bench.boxes:
            width, height = row["widths"][0], row["heights"][0]
            extras |= {"width": width, "height": height, "box_format": boxes}
        item: dict[str, Any] = {
            **{name: row[name] for name in ("source", "split", "sample_id", "native_id")},
            "metric": metric.name,
            "question": question(row),
            "image_ids": row["image_ids"],
            "reference": reference,
            "references": readable(reference, row["choices"]),
            "prediction": answer.text,
            "blind_answer": answer.blind,
            "majority_answer": _written(said["majority"]),
            **extras,
        }
        known = {name: extras[name] for name in metric.extras if name in extras}
        scored = {name: value for name, value in known.items() if name in taken}
        for name in WHO:
            if reference is None or said[name] is None:
                item[SCORE[name]] = None
                continue
            item[SCORE[name]] = metric.score(said[name], reference, **scored)
            judged[name].append({"prediction": said[name], "reference": reference, **known})
        if bench.boxes:
            item |= _boxes(row, answer, boxes)
        items.append(item)
    drawn = [
        {"prediction": item["predicted_mask"], "reference": item["true_mask"]}
        for item in items
        if item.get("true_mask")
    ]
    # Only a model that draws at all is asked how well.
    draws = any(item["prediction"] for item in drawn)
    return {
        "metric": metric.name,
        "title": metric.title,
        "measure": metric.measure,
        "most": metric.most,
        "questions": len(rows),
        "scored": len(judged["model"]),
        "majority_answer": constant,
        "masks": {"scored": len(drawn), **METRICS["refseg"].aggregate(drawn)} if draws else None,
        **{name: metric.aggregate(found) if found else None for name, found in judged.items()},
    }, items


def _written(answer: str | list[float] | None) -> str | None:
    return answer if answer is None or isinstance(answer, str) else str(answer)


def _boxes(row: Row, answer: Answer, boxes: str) -> dict[str, Any]:
    """Return the first box of an answer and the true one, in pixels, and their masks."""
    width, height = row["widths"][0], row["heights"][0]
    found = read_box(answer.text, width, height, boxes)
    mask = None
    if found and answer.masks:
        mask = json.dumps(encode(painted(from_hex(answer.masks[0]), found, width, height)))
    return {
        "predicted_box": found,
        "true_box": true_box(row),
        "predicted_mask": mask,
        "true_mask": true_mask(row),
    }
