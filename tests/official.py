"""Tiny made-up releases in official layout, written on the fly."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """Write a picture of noise, (width, height) pixels, told apart by its seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_vqav2(
    root: Path, *, split: str = "train2014", questions: int = 6, first: int = 0
) -> Path:
    """Write a VQAv2 split with two questions a picture."""
    root.mkdir(parents=True, exist_ok=True)
    asked, answered = [], []
    for number in range(first, first + questions):
        image_id = number // 2
        write_picture(root / split / f"COCO_{split}_{image_id:012}.jpg", image_id)
        question_id = image_id * 1000 + number % 2
        asked.append(
            {"image_id": image_id, "question": f"What is {number}?", "question_id": question_id}
        )
        answered.append(
            {
                "question_id": question_id,
                "image_id": image_id,
                "question_type": "what is",
                "answer_type": "other",
                "multiple_choice_answer": "cat",
                "answers": [
                    {"answer": "cat", "answer_confidence": "yes", "answer_id": i}
                    for i in range(1, 11)
                ],
            }
        )
    head = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": split}
    (root / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(
        json.dumps({**head, "task_type": "Open-Ended", "questions": asked})
    )
    (root / f"v2_mscoco_{split}_annotations.json").write_text(
        json.dumps({**head, "annotations": answered})
    )
    return root


def write_alpaca(root: Path, records: int = 4) -> Path:
    """Write an Alpaca file."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [
        {"instruction": f"Add {i}.", "input": "1" if i % 2 else "", "output": f"{i + 1}"}
        for i in range(records)
    ]
    (root / "alpaca_data.json").write_text(json.dumps(rows))
    return root
