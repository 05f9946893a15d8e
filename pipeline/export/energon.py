"""What Megatron-Energon wants beside WebDataset shards: which shards, how many samples, which split.

`energon prepare` adds its own index. Format: https://nvidia.github.io/Megatron-Energon/
"""

import json
import tarfile
from pathlib import Path

import yaml

from pipeline.plan import Plan


def finish(folder: Path, shards: list[Path], plan: Plan) -> None:
    """Write `.nv-meta/`: crude samples, all of them for training."""
    meta = folder / ".nv-meta"
    meta.mkdir(exist_ok=True)
    counts = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            counts[shard.name] = sum(name.endswith(".json") for name in tar.getnames())
    dataset = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    names = [shard.name for shard in shards]
    files = {
        "dataset.yaml": yaml.safe_dump({**dataset, "subflavors": {"plan": plan.id}}),
        "split.yaml": yaml.safe_dump({"split_parts": {"train": names, "val": [], "test": []}}),
        ".info.json": json.dumps({"energon_version": None, "shard_counts": counts}),
    }
    for name, text in files.items():
        (meta / name).write_text(text)
