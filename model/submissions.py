"""Answers -> the files that a benchmark's server, or its official script, takes.

Forms: visualqa.org (VQAv2, OK-VQA), EvalAI (TextVQA, VizWiz), rrc.cvc.uab.es (DocVQA, InfographicVQA,
ST-VQA), cocodataset.org (captions); the scripts of GQA, A-OKVQA, ScienceQA, OCRBench, MMMU, MathVista,
POPE and MME; VLMEvalKit's tables (MMBench, RealWorldQA); Qwen-VL's evaluation (RefCOCO).
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from model.benchmarks import Row, picture_id, question, true_box
from model.metrics.letters import lettered
from model.metrics.mathvista import extract, normal_form
from model.metrics.mmmu import read_choice
from model.metrics.scienceqa import LETTERS, letter
from model.metrics.textvqa import evalai

Entry = dict[str, Any]
Files = dict[str, str]
"""End of a file's name, behind that of the source -> its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a benchmark takes."""

    entry: Callable[[Row, str], Entry]
    """Row and answer -> what the files say of one question."""
    files: Callable[[list[Entry]], Files]


def submission(source: str, rows: Sequence[Row], answers: Sequence[str]) -> Files:
    """Return a source's prediction files, one entry a question: name -> text."""
    form = SUBMISSIONS.get(source, QUESTION_ID)
    entries = [form.entry(row, answer) for row, answer in zip(rows, answers, strict=True)]
    return {source + end: text for end, text in form.files(entries).items()}


def _json(content: Any) -> Files:
    return {".json": json.dumps(content, ensure_ascii=False)}


def _joined(entries: list[Entry]) -> Files:
    return _json({key: value for entry in entries for key, value in entry.items()})


def _results(entries: list[Entry]) -> Files:
    return _json({"results": {key: value for entry in entries for key, value in entry.items()}})


def _table(entries: list[Entry]) -> Files:
    """Write a table whose columns are those that any entry has."""
    columns = list(dict.fromkeys(name for entry in entries for name in entry))
    # The answer stands last, as in the tables of the official tools.
    columns.sort(key="prediction".__eq__)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return {".tsv": text.getvalue()}


def _lines(entries: list[Entry]) -> Files:
    """Write JSON Lines, one file a category."""
    files: dict[str, list[str]] = {}
    for entry in entries:
        category = entry.pop("category")
        files.setdefault(category, []).append(json.dumps(entry, ensure_ascii=False) + "\n")
    return {f"/{name or 'all'}.jsonl": "".join(lines) for name, lines in files.items()}


def _subtasks(entries: list[Entry]) -> Files:
    """Write lines of tab-separated fields, one file a subtask, the questions of a picture together."""
    files: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        pictures = files.setdefault(entry["subtask"], {})
        fields = (entry["image"], entry["question"], entry["gold"], entry["answer"])
        line = "\t".join(re.sub(r"[\t\r\n]", " ", text) for text in fields)
        pictures.setdefault(entry["image"], []).append(line + "\n")
    return {
        f"/{name}.txt": "".join(line for lines in pictures.values() for line in lines)
        for name, pictures in files.items()
    }


def _number(native_id: str) -> int | str:
    return int(native_id) if native_id.isascii() and native_id.isdigit() else native_id


def _by_question_id(row: Row, answer: str) -> Entry:
    return {"question_id": _number(row["native_id"]), "answer": answer}


def _by_rrc_id(row: Row, answer: str) -> Entry:
    return {"questionId": _number(row["native_id"]), "answer": answer}


def _by_image(row: Row, answer: str) -> Entry:
    # The server takes answers that have been through the EvalAI processor.
    return {"image": row["native_id"], "answer": evalai(answer)}


def _gqa(row: Row, answer: str) -> Entry:
    return {"questionId": row["native_id"], "prediction": answer}


def _direct(row: Row, answer: str) -> Entry:
    return {row["native_id"]: {"direct_answer": answer}}


def _chosen(row: Row, answer: str) -> Entry:
    said = letter(answer)
    return {row["native_id"]: -1 if said is None else LETTERS.index(said)}


def _caption(row: Row, answer: str) -> Entry:
    return {"image_id": _number(picture_id(row)), "caption": answer}


def _with_box(row: Row, answer: str) -> Entry:
    size = [row["heights"][0], row["widths"][0]]
    return {"answer": answer, "gt_bbox": list(true_box(row) or ()), "hw": size}


def _ocrbench(row: Row, answer: str) -> Entry:
    names = ("dataset_name", "type", "image_path")
    return {
        "id": _number(row["native_id"]),
        **{name: row[name] for name in names},
        "question": question(row),
        "answers": list(row["answers"] or ()),
        "predict": answer,
    }


def _row(row: Row, answer: str) -> Entry:
    """Return a row of VLMEvalKit's table without its picture, and with the answer."""
    text, hint = question(row), row.get("hint") or ""
    options = lettered(row["choices"] or ())
    listed = "".join(f"\n{name}. {option}" for name, option in options.items())
    text = text.removeprefix(f"{hint}\n").removesuffix(listed)
    index: int | None = row["answer_index"]
    truth = (row["answers"] or [""])[0] if index is None else ascii_uppercase[index]
    columns = {"category": "category", "l2-category": "l2-category", "split": "part"}
    groups = {name: row[own] for name, own in columns.items() if row.get(own)}
    hinted = {"hint": hint} if hint else {}
    own = row["index"] or row["native_id"]
    known = {"index": own, "question": text, **hinted, **options, "answer": truth}
    return known | groups | {"prediction": answer}


def _mmmu(row: Row, answer: str) -> Entry:
    if not row["choices"]:
        return {row["native_id"]: answer}
    return {row["native_id"]: read_choice(answer, lettered(row["choices"])) or answer}


def _mathvista(row: Row, answer: str) -> Entry:
    choices = list(row["choices"] or ())
    kinds = {name: row[name] for name in ("question_type", "answer_type")}
    digits = float(row["precision"]) if row["precision"] else None
    found = extract(answer, **kinds, choices=choices)
    normal = normal_form(found, **kinds, choices=choices, precision=digits)
    truth = row["answers"][0] if row["answers"] else None
    return {
        row["native_id"]: {
            "pid": row["native_id"],
            "question": question(row),
            **kinds,
            "choices": choices or None,
            "precision": digits,
            "answer": truth,
            "response": answer,
            "extraction": found or "",
            "prediction": normal,
            "true_false": normal == truth,
        }
    }


def _pope(row: Row, answer: str) -> Entry:
    known = {"question_id": _number(row["native_id"]), "question": question(row)}
    return {"category": row["category"], **known, "answer": answer}


def _mme(row: Row, answer: str) -> Entry:
    return {
        "subtask": row["subtask"],
        "image": row["image_path"] or row["image_ids"][0],
        "question": question(row),
        "gold": (row["answers"] or [""])[0],
        "answer": answer,
    }


QUESTION_ID = Submission(entry=_by_question_id, files=_json)
"""The form of VQAv2, of OK-VQA, TextVQA and ST-VQA, and of whatever has no form of its own."""
_RRC = Submission(entry=_by_rrc_id, files=_json)
_CAPTIONS = Submission(entry=_caption, files=_json)
_REFCOCO = Submission(entry=_with_box, files=_json)
_TABLE = Submission(entry=_row, files=_table)
SUBMISSIONS: Mapping[str, Submission] = {
    "vizwiz": Submission(entry=_by_image, files=_json),
    "gqa": Submission(entry=_gqa, files=_json),
    "aokvqa": Submission(entry=_direct, files=_joined),
    "scienceqa": Submission(entry=_chosen, files=_results),
    "docvqa": _RRC,
    "infographicvqa": _RRC,
    "coco_captions": _CAPTIONS,
    "flickr30k": _CAPTIONS,
    "textcaps": _CAPTIONS,
    "refcoco": _REFCOCO,
    "refcoco+": _REFCOCO,
    "refcocog": _REFCOCO,
    "multimodal_ocr": Submission(entry=_ocrbench, files=_json),
    "mmbench": _TABLE,
    "realworldqa": _TABLE,
    "mmmu": Submission(entry=_mmmu, files=_joined),
    "mathvista": Submission(entry=_mathvista, files=_joined),
    "pope": Submission(entry=_pope, files=_lines),
    "mme": Submission(entry=_mme, files=_subtasks),
}
"""Source -> its form, where it is not that of VQAv2."""
