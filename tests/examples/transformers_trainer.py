"""A plan in `transformers.Trainer`.

python -m tests.examples.transformers_trainer CATALOG PLAN_ID OUTPUT
"""

import sys
from pathlib import Path

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from pipeline.batch import Batch
from pipeline.packed import PackedDataset, collate
from pipeline.plan import Plan
from tests.examples.tiny_model import tiny_model


class ForTrainer(nn.Module):
    """What `Trainer` calls: keyword tensors in, a dict with the loss out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.model = tiny_model(plan)

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor,
        positions: Tensor,
        segments: Tensor,
        pixels: Tensor,
        loss_tokens: Tensor,
    ) -> dict[str, Tensor]:
        batch = Batch(
            tokens=tokens,
            labels=labels,
            positions=positions,
            segments=segments,
            pixels=pixels,
            step=0,
            packs=(),
            loss_tokens=int(loss_tokens),
            samples=0,
        )
        return {"loss": self.model(batch) / loss_tokens}


def main(catalog: Path, plan_id: str, output: Path) -> None:
    """Train a tiny model for one pass over the plan."""
    plan = Plan.open(catalog, plan_id)
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=plan.packs_per_step,
        num_train_epochs=1,
        # The plan's order is the training order.
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=2,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = Trainer(
        model=ForTrainer(plan),
        args=arguments,
        train_dataset=PackedDataset(plan),
        data_collator=collate,
    )
    trainer.train()
    for line in trainer.state.log_history:
        if "loss" in line:
            print(f"step {round(line['step']) - 1}: loss {line['loss']:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
