"""`cuvee export`: shards of steps, each whole or not there; a rerun goes on after the last one."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import UserError
from pipeline.export import energon, llava, mds, parquet, webdataset, xtuner
from pipeline.export.rows import Drawn, Rows
from pipeline.plan import Plan

SHARD_SAMPLES = 5_000
"""Draws in a shard, about."""
NOTE = "cuvee-export.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A format."""

    ending: str
    write: Callable[[Path, Path, list[Drawn]], None]
    """Writes a shard's samples to a file; its second argument is the folder of the export."""
    finish: Callable[[Path, list[Path], Plan], None]
    """Writes what describes all shards."""
    ids: bool = False
    """Whether it holds token ids, which must then say all."""


TARGETS: dict[str, Target] = {
    "webdataset": Target(ending="tar", write=webdataset.write, finish=webdataset.finish),
    "parquet": Target(ending="parquet", write=parquet.write, finish=parquet.finish),
    "mds": Target(ending="mds", write=mds.write, finish=mds.finish),
    "energon": Target(ending="tar", write=webdataset.write, finish=energon.finish),
    "xtuner": Target(ending="jsonl", write=xtuner.write, finish=xtuner.finish, ids=True),
    "llava": Target(ending="jsonl", write=llava.write, finish=llava.finish),
}


def export(
    plan: Plan,
    catalog: Path,
    to: str,
    out: Path,
    *,
    shard_samples: int = SHARD_SAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write a plan for another trainer; return its shards. What an earlier run finished is left.

    `progress` is called with the shards that are done and their number.

    Raises:
        UserError: no such target, or the folder holds another export; or the target holds token ids, and
            those of the plan point at boxes, which no id can say.
    """
    if to not in TARGETS:
        raise UserError(f"no target {to!r}", fix=f"one of {', '.join(TARGETS)}")
    target = TARGETS[to]
    if target.ids and plan.located:
        whole = [name for name, other in TARGETS.items() if not other.ids]
        raise UserError(
            f"{to} takes token ids, and this plan's boxes are location tokens (pix2emb)",
            fix=f"plan with boxes as text, such as `boxes: shikra`, or export to {', '.join(whole)}",
        )
    draws = sum(entry["draws"] for entry in plan.header["entries"])
    each = max(1, shard_samples * plan.steps // max(draws, 1))
    _claim(out, {"plan": plan.id, "to": to, "steps_a_shard": each})
    rows, shards = Rows(plan, catalog), []
    starts = range(0, plan.steps, each)
    for number, start in enumerate(starts):
        shard = out / f"{to}-{number:05}.{target.ending}"
        shards.append(shard)
        if not shard.exists():
            new = out / f".{shard.name}.{os.getpid()}.new"
            try:
                steps = range(start, min(start + each, plan.steps))
                target.write(new, out, list(rows.of(steps)))
                new.replace(shard)
            finally:
                new.unlink(missing_ok=True)
        if progress:
            progress(number + 1, len(starts))
    target.finish(out, shards, plan)
    return shards


def _claim(out: Path, said: dict[str, str | int]) -> None:
    """Let the folder be that of this export."""
    note = out / NOTE
    if note.exists() and json.loads(note.read_text()) != said:
        raise UserError(f"{out} holds another export", fix="choose another --out, or remove it")
    if not note.exists() and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty", fix="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(said))
