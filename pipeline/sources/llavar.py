"""LLaVAR: LLaVA conversations on pictures rich in text -> Record.

Format: https://github.com/SALT-NLP/LLaVAR
Its pictures are named in the style of CC3M and COCO, and are not theirs: they keep a root of their own.
"""

from pipeline.sources.llava import family

LLAVAR = family(
    "llavar",
    "LLaVAR",
    "chat_llavar.json",
    "llava_instruct_150k_llavar_*.json",
    "pretrain/chat_llavar.json",
    "finetune/llava_instruct_150k_llavar_*.json",
    files=(
        "pretrain/chat_llavar.json",
        "finetune/llava_instruct_150k_llavar_{16k,20k}.json",
        "pictures of LLaVAR's own, at the paths the files name",
    ),
    license="CC BY-NC 4.0",
    homepage="https://github.com/SALT-NLP/LLaVAR",
)
