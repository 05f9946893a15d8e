"""MMC: chart-text alignment, chart instructions, and the benchmark of both -> Record.

Format: https://github.com/FuxiaoLiu/MMC
The keys of the records are not documented. Expected are those of the author's LRV-Instruction,
`image_id`, `instruction` and `output`, or one of the spellings in `KEYS`; where pictures are
unpacked is not documented either: `FOLDERS` are looked through.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from catalog.record import ImageRef, Record
from pipeline.sources.base import Item, Source, need, read_rows, relative, rest, safe
from pipeline.sources.rows import as_text, asked, records

LICENSE = "CC BY-SA 4.0"
FILES = {
    "alignment": "mmc_chart_text_alignment_arxiv_text.jsonl",
    "instruction_arxiv": "mmc_instruction_arxiv_text.jsonl",
    "instruction_non-arxiv": "mmc_instruction_non-arxiv_text.jsonl",
    "benchmark": "mmc_benchmark_text.jsonl",
    "benchmark_mqa": "mmc_benchmark_mqa_text.jsonl",
}
KEYS = {
    "image": ("image_id", "image", "img", "image_path"),
    "question": ("instruction", "question", "query"),
    "answer": ("output", "answer", "label", "gt_answer"),
}
"""What a record says -> the keys that may say it, the likeliest first."""
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp")


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return split -> its file, at the root or in the folder of its part."""
    found: dict[str, tuple[Path, ...]] = {}
    for split, name in FILES.items():
        if files := sorted([*root.glob(name), *root.glob(f"*/{name}")]):
            found[split] = (files[0],)
    return found


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record an instruction, in file order."""
    name, rows = relative(files[0], root), read_rows(files[0])
    record = partial(_record, root, split, files[0], name)
    return records("mmc", split, name, rows, record, key="id")


def _record(root: Path, split: str, file: Path, name: str, position: int, row: Any) -> Record:
    image_key, question_key, answer_key = (_key(row, what) for what in KEYS)
    image = need(row, image_key, (str, int))
    question, answer = need(row, question_key, str), None
    taken = [question_key]
    if answer_key in row:
        given = row[answer_key]
        # The benchmark's statements are true or false.
        answer = str(given) if isinstance(given, bool) else as_text(given)
        taken += [answer_key] if isinstance(given, str) else []
    own = row.get("id")
    return Record(
        source="mmc",
        split=split,
        native_id=str(own) if isinstance(own, int | str) else f"#{position}",
        task="conversation",
        images=(ImageRef(path=_image(root, file, str(image))),),
        messages=asked(question, answer),
        answers=None if answer is None else (answer,),
        license=LICENSE,
        extra=rest(row, *taken),
        file=name,
    )


def _key(row: Any, what: str) -> str:
    """Return the key under which a row says this, or the likeliest."""
    there = row if isinstance(row, dict) else {}
    return next((key for key in KEYS[what] if key in there), KEYS[what][0])


def _image(root: Path, file: Path, name: str) -> str:
    """Return a picture's path: beside the file, or in the folder that its archive is named for."""
    stem = file.stem.removesuffix("_text")
    path = safe(name if name.lower().endswith(ENDINGS) else f"{name}.jpg")
    home = relative(file.parent, root)
    base = "" if home == "." else f"{home}/"
    places = [f"{base}{folder}{path}" for folder in (f"{stem}_images/", "images/", "")]
    return next((place for place in places if (root / place).exists()), places[0])


MMC = Source(
    name="mmc",
    title="MMC-Instruction",
    family="ocr",
    files=(
        "MMC-Instruction/mmc_instruction_{arxiv,non-arxiv}_text.jsonl",
        "MMC-Alignment/mmc_chart_text_alignment_arxiv_text.jsonl",
        "MMC-Benchmark/mmc_benchmark_{,mqa_}text.jsonl",
        "..._images/ beside each",
    ),
    splits=splits,
    reader=read,
    license=LICENSE,
    homepage="https://github.com/FuxiaoLiu/MMC",
    official={
        "alignment": 250_000,
        "instruction_arxiv": 300_000,
        "instruction_non-arxiv": 109_887,
        "benchmark": 2_126,
        "benchmark_mqa": 808,
    },
)
