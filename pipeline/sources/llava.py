"""LLaVA conversation files, and the data sets that come in them with deviations -> Record.

Formats: https://github.com/haotian-liu/LLaVA/blob/main/docs/Data.md,
https://github.com/InternLM/InternLM-XComposer/tree/main/projects/ShareGPT4V,
https://github.com/FreedomIntelligence/ALLaVA, https://github.com/BAAI-DCAI/Visual-Instruction-Tuning,
https://github.com/thunlp/Muffin

Boxes stand in the text as the releases write them (0 to 1, some on the padded square), for a reader
opens no picture and so cannot make them pixels. The raw form of SVIT is known from its tools alone; the
file of ComVint is not described beyond its form [unverified].
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.sources import boxed
from pipeline.sources.base import Bad, Source, first_folder, need, read_rows, rest, safe
from pipeline.sources.boxed import with_regions
from pipeline.sources.dialog import TURNS, Dialog, dialog_of
from pipeline.sources.each import reader, split_a_file


def say(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a LLaVA row whose picture paths stand under the root."""
    return dialog_of(row)


def family(
    name: str,
    title: str,
    *patterns: str,
    files: tuple[str, ...],
    license: str,
    homepage: str,
    official: Mapping[str, int] | None = None,
    note: str = "",
) -> Source:
    """Return the source of a release in plain LLaVA form: each file a split."""
    return Source(
        name=name,
        title=title,
        family="instruction",
        files=files,
        splits=split_a_file(*patterns),
        reader=reader(name, license, say),
        license=license,
        homepage=homepage,
        official=official or {},
        note=note,
    )


def _say_llava_instruct(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row of the 150K files, which name a picture of COCO by its bare number."""
    folders = ("train2014", "coco/train2014", "train2017", "coco/train2017")
    folder = first_folder(root, folders, "train2017")
    prefix = "COCO_train2014_" if folder.endswith("2014") else ""
    return dialog_of(row, at=lambda path: path if "/" in safe(path) else f"{folder}/{prefix}{path}")


def _svit_rows(root: Path, file: Path) -> Iterator[Any]:
    """Yield a row a dialogue: raw files nest several in a picture's row, one level deeper."""
    for position, row in enumerate(read_rows(file)):
        dialogues = row.get("conversations") if isinstance(row, dict) else None
        if not isinstance(dialogues, list) or not any(
            isinstance(dialogue, dict) and "content" in dialogue for dialogue in dialogues
        ):
            yield row
            continue
        for number, dialogue in enumerate(dialogues):
            if not isinstance(dialogue, dict):
                yield Bad("wrong_type", f"dialogue {number} of row {position} is no object")
                continue
            kept = rest(row, "conversations") | rest(dialogue, "content")
            name = f"{row.get('image_id', position)}.{number}"
            yield {"id": name} | kept | {"conversations": dialogue.get("content")}


def _say_svit(root: Path, row: dict[str, Any]) -> Dialog:
    """Read a row of SVIT; raw ones name a picture of Visual Genome by its number."""
    if "image_id" not in row or "image" in row:
        return with_regions(dialog_of(row), row, boxed.SVIT)
    name = f"{need(row, 'image_id', (int, str))}.jpg"
    folder = "VG_100K_2" if (root / "VG_100K_2" / safe(name)).is_file() else "VG_100K"
    said = dialog_of(row | {"image": f"{folder}/{name}"})
    return with_regions(said, row, boxed.SVIT)


LLAVA = Source(
    name="llava",
    title="LLaVA conversations, any file",
    family="instruction",
    files=("*.json or *.jsonl with `conversations`", "pictures at the paths they name"),
    splits=split_a_file("*.json", "*.jsonl", keys=TURNS),
    reader=reader("llava", "CC BY-NC 4.0", say),
    license="CC BY-NC 4.0",
    homepage="https://github.com/haotian-liu/LLaVA",
    official={"blip_laion_cc_sbu_558k": 558_128},
    version=2,
)
LLAVA_INSTRUCT = Source(
    name="llava_instruct",
    title="LLaVA-Instruct-150K",
    family="instruction",
    files=(
        "llava_instruct_150k.json (or 80k), conversation_58k.json, detail_23k.json, "
        "complex_reasoning_77k.json",
        "train2014/COCO_train2014_*.jpg or train2017/*.jpg",
    ),
    splits=split_a_file(
        "llava_instruct_*.json",
        "conversation_58k.json",
        "detail_23k.json",
        "complex_reasoning_77k.json",
    ),
    reader=reader("llava_instruct", "CC BY-NC 4.0", _say_llava_instruct),
    license="CC BY-NC 4.0",
    homepage="https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K",
    official={"llava_instruct_150k": 157_712},
)
LLAVA_MIX665K = family(
    "llava_mix665k",
    "LLaVA-1.5 mix665k",
    "llava_v1_5_mix*.json",
    files=(
        "llava_v1_5_mix665k.json",
        "coco/train2017/, gqa/images/, ocr_vqa/images/, textvqa/train_images/, vg/VG_100K*/",
    ),
    license="CC BY-NC 4.0",
    homepage="https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K",
    note="Boxes, 0 to 1, stay text: whether on the padded square is unverified",
)
SHAREGPT4V = family(
    "sharegpt4v",
    "ShareGPT4V",
    "sharegpt4v_*.json",
    "share-captioner_*.json",
    "sharegpt4v/sharegpt4v_*.json",
    "sharegpt4v/share-captioner_*.json",
    files=(
        "sharegpt4v_*.json, share-captioner_*.json, here or in sharegpt4v/",
        "coco/train2017/, sam/images/, llava/llava_pretrain/images/, …",
    ),
    license="CC BY-NC 4.0",
    homepage="https://sharegpt4v.github.io",
    official={
        "sharegpt4v_instruct_gpt4-vision_cap100k": 102_025,
        "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k": 665_058,
    },
)
ALLAVA = family(
    "allava",
    "ALLaVA",
    "ALLaVA-*-4V.json",
    "allava_*/ALLaVA-*-4V.json",
    "Evol-Instruct-*.json",
    "allava_*/Evol-Instruct-*.json",
    files=(
        "ALLaVA-*-4V.json, Evol-Instruct-*.json, here or in allava_{laion,vflan,text}/",
        "allava_laion/images/, allava_vflan/images/",
    ),
    license="Apache-2.0",
    homepage="https://github.com/FreedomIntelligence/ALLaVA",
    official={
        "ALLaVA-Caption-LAION-4V": 505_588,
        "ALLaVA-Caption-VFLAN-4V": 202_552,
        "ALLaVA-Instruct-LAION-4V": 505_588,
        "ALLaVA-Instruct-VFLAN-4V": 203_065,
        "Evol-Instruct-GPT4-Turbo-143K": 143_000,
    },
)
SVIT = Source(
    name="svit",
    title="SVIT",
    family="instruction",
    files=(
        "raw/{conversation,complex_reasoning,detail_description,referring_qa}.json",
        "or format/llava-v1.5/SVIT_*.json",
        "VG_100K/*.jpg, VG_100K_2/*.jpg",
    ),
    splits=split_a_file("*.json", "raw/*.json", "format/*/*.json", keys=TURNS),
    reader=reader("svit", "CC BY 4.0", _say_svit, _svit_rows),
    license="CC BY 4.0",
    homepage="https://github.com/BAAI-DCAI/Visual-Instruction-Tuning",
    note="The raw form is known from the release's tools alone",
)
UNIMM_CHAT = family(
    "unimm_chat",
    "UniMM-Chat",
    "UniMM-Chat*.json",
    files=("UniMM-Chat-v0.json", "pictures of COCO at the paths it names"),
    license="CC BY-NC 4.0",
    homepage="https://github.com/thunlp/Muffin",
    note="The form is that of LLaVA; details are unverified",
)
COMVINT = replace(
    family(
        "comvint",
        "ComVint",
        "ComVint*.json",
        "comvint*.json",
        files=("ComVint.json", "pictures of COCO, Flickr30K and VG at the paths it names"),
        license="unclear: none stated",
        homepage="https://github.com/RUCAIBox/ComVint",
        note="The form is that of LLaVA; details are unverified",
    ),
    family="reasoning",
)
