"""Canvases and pages -> dataset releases in the layouts of the official ones."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from flows.demo import questions
from flows.demo.canvas import SIDE, Canvas, Pixels, Split, scattered, written
from flows.demo.text import instructions, page

SPLITS: tuple[Split, ...] = ("train", "val")
COCO = {"train": "train2014", "val": "val2014"}
RELEASES_VERSION = 2
"""Raise when the same size would give other files."""
VAL = 1_000_000
"""Pictures of `val` are numbered from here: RefCOCO keeps those of all splits in one folder."""
Rows = list[dict[str, Any]]
Progress = Callable[[float, float, str], None]
"""(releases done, releases, the one that begins)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many pictures the releases hold."""

    canvases: int = 6_000
    """Training pictures with scattered digits."""
    lines: int = 2_000
    """Training pictures with a number, and as many pages."""
    held_out: int = 150
    """Pictures of each kind in `val`."""
    seed: int = 0

    def scattered(self, split: Split) -> tuple[Canvas, ...]:
        """Return a split's canvases with scattered digits."""
        return _scattered(self.seed, split, self.canvases if split == "train" else self.held_out)

    def few(self, split: Split) -> range:
        """Return the numbers of a split's pictures with a number, or of its pages."""
        return _numbers(split, self.lines if split == "train" else self.held_out)


@cache
def _scattered(seed: int, split: Split, count: int) -> tuple[Canvas, ...]:
    return tuple(scattered(seed, split, number) for number in _numbers(split, count))


def _numbers(split: Split, count: int) -> range:
    first = 1 + VAL * (split == "val")
    return range(first, first + count)


def write_releases(folder: Path, size: Size, progress: Progress) -> None:
    """Write a release of each source into a folder of its name."""
    for place, (name, writer) in enumerate(WRITERS.items()):
        progress(place, len(WRITERS), name)
        (folder / name).mkdir(parents=True)
        writer(folder / name, size)


def _vqav2(root: Path, size: Size) -> None:
    for split in SPLITS:
        asked: Rows = []
        answered: Rows = []
        for canvas in size.scattered(split):
            _picture(root / COCO[split] / _coco(COCO[split], canvas), canvas.pixels)
            for place, item in enumerate(questions.visual(canvas)):
                key = {"question_id": canvas.number * 1000 + place, "image_id": canvas.number}
                asked.append(key | {"question": item.question})
                answered.append(
                    key
                    | {
                        "question_type": item.kind,
                        "answer_type": "number" if item.answer.isdigit() else "other",
                        "multiple_choice_answer": item.answer,
                        "answers": [
                            {"answer": item.answer, "answer_confidence": "yes", "answer_id": i}
                            for i in range(1, 11)
                        ],
                    }
                )
        head = {
            "info": {"description": "scanned digits on a desk", "version": "2.0"},
            "license": {"name": "CC BY 4.0", "url": "http://creativecommons.org/licenses/by/4.0/"},
            "data_type": "mscoco",
            "data_subtype": COCO[split],
        }
        name = f"v2_OpenEnded_mscoco_{COCO[split]}_questions.json"
        _json(root / name, head | {"task_type": "Open-Ended", "questions": asked})
        _json(root / f"v2_mscoco_{COCO[split]}_annotations.json", head | {"annotations": answered})


def _refcoco(root: Path, size: Size) -> None:
    refs: Rows = []
    pictures: Rows = []
    annotations: Rows = []
    for split in SPLITS:
        for canvas in size.scattered(split):
            name = _coco("train2014", canvas)
            _picture(root / "images/mscoco/images/train2014" / name, canvas.pixels)
            pictures.append(
                {
                    "id": canvas.number,
                    "file_name": name,
                    "width": SIDE,
                    "height": SIDE,
                    "license": 4,
                }
            )
            for expression in questions.expressions(canvas):
                slip, number = expression.slip, len(annotations) + 1
                (x0, y0, x1, y1), category = slip.box, slip.digit + 1
                annotations.append(
                    {
                        "id": number,
                        "image_id": canvas.number,
                        "category_id": category,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                )
                sentences = [
                    {"sent_id": number * 10 + i, "sent": text, "raw": text, "tokens": text.split()}
                    for i, text in enumerate(expression.sentences)
                ]
                refs.append(
                    {
                        "ref_id": number,
                        "ann_id": number,
                        "image_id": canvas.number,
                        "category_id": category,
                        "file_name": name.replace(".jpg", f"_{number}.jpg"),
                        "split": split,
                        "sent_ids": [sentence["sent_id"] for sentence in sentences],
                        "sentences": sentences,
                    }
                )
    categories = [{"id": d + 1, "name": str(d), "supercategory": "digit"} for d in range(10)]
    parts = {"images": pictures, "annotations": annotations, "categories": categories}
    (root / "refcoco").mkdir()
    _json(root / "refcoco/instances.json", {"info": {}, "licenses": [], **parts})
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def _textvqa(root: Path, size: Size) -> None:
    for split in SPLITS:
        rows: Rows = []
        read: Rows = []
        for number in size.few(split):
            canvas, name = written(size.seed, split, number), f"{number:016x}"
            _picture(root / "train_images" / f"{name}.jpg", canvas.pixels)
            item = questions.number(canvas)
            rows.append(
                {
                    "question_id": number,
                    "question": item.question,
                    "image_id": name,
                    "image_width": SIDE,
                    "image_height": SIDE,
                    "answers": [item.answer] * 10,
                    "set_name": split,
                }
            )
            read.append({"image_id": name, "ocr_tokens": [canvas.text], "ocr_info": []})
        head = {"dataset_type": split, "dataset_name": "textvqa"}
        _json(root / f"TextVQA_0.5.1_{split}.json", head | {"data": rows})
        _json(root / f"TextVQA_Rosetta_OCR_v0.2_{split}.json", head | {"data": read})


def _docvqa(root: Path, size: Size) -> None:
    for split in SPLITS:
        rows: Rows = []
        for number in size.few(split):
            sheet = page(size.seed, split, number)
            image = f"documents/demo{number:07}_1.png"
            _picture(root / image, sheet.pixels)
            for place, item in enumerate(questions.document(sheet, split)):
                rows.append(
                    {
                        "questionId": number * 10 + place,
                        "question": item.question,
                        "question_types": [item.kind],
                        "image": image,
                        "docId": number,
                        "ucsf_document_id": f"demo{number:07}",
                        "ucsf_document_page_no": "1",
                        "answers": [item.answer],
                        "data_split": split,
                    }
                )
        head = {"dataset_name": "docvqa", "dataset_version": "1.0", "dataset_split": split}
        _json(root / f"{split}_v1.0_withQT.json", head | {"data": rows})


def _llava(root: Path, size: Size) -> None:
    rows: Rows = []
    for canvas in size.scattered("train"):
        image = f"coco/train2017/{canvas.number:012}.jpg"
        _picture(root / image, canvas.pixels)
        turns = []
        for place, item in enumerate(questions.conversation(canvas)):
            mark = "" if place else "<image>\n"
            turns.append({"from": "human", "value": mark + item.question})
            turns.append({"from": "gpt", "value": item.answer})
        rows.append({"id": f"{canvas.number:012}", "image": image, "conversations": turns})
    _json(root / "llava_instruct_digits.json", rows)


def _alpaca(root: Path, size: Size) -> None:
    pairs = instructions()[: size.canvases]
    rows = [{"instruction": asked, "input": "", "output": said} for asked, said in pairs]
    _json(root / "alpaca_data.json", rows)


WRITERS: dict[str, Callable[[Path, Size], None]] = {
    "vqav2": _vqav2,
    "refcoco": _refcoco,
    "textvqa": _textvqa,
    "docvqa": _docvqa,
    "llava": _llava,
    "alpaca": _alpaca,
}


def _coco(subtype: str, canvas: Canvas) -> str:
    return f"COCO_{subtype}_{canvas.number:012}.jpg"


def _picture(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
