"""A plan in a plain PyTorch loop.

python -m tests.examples.plain_pytorch CATALOG PLAN_ID
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from pipeline.batch import Batch
from pipeline.packed import PackedDataset, collate
from pipeline.plan import Plan
from tests.examples.tiny_model import tiny_model


def main(catalog: Path, plan_id: str) -> None:
    """Train a tiny model for one pass over the plan."""
    plan = Plan.open(catalog, plan_id)
    model = tiny_model(plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    # The plan's order is the training order: never shuffle here.
    loader = DataLoader(
        PackedDataset(plan), batch_size=plan.packs_per_step, collate_fn=collate, num_workers=2
    )
    for step, rows in enumerate(loader):
        loss_tokens = int(rows.pop("loss_tokens"))
        batch = Batch(**rows, step=step, packs=(), loss_tokens=loss_tokens, samples=0)
        loss = model(batch) / loss_tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
