"""The tiny model that the examples train."""

from pathlib import Path

import torch

from model.config import RunConfig
from model.language import vocabulary_of
from model.vlm import CuveeModel
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}


def tiny_model(plan: Plan) -> CuveeModel:
    """Return a model for a plan whose tiles of 16 pixels give 4 tokens each."""
    torch.manual_seed(0)
    config = RunConfig.model_validate(
        {
            "catalog": "catalog",
            "output": "run",
            "vision": {"config": SHAPE | {"num_attention_heads": 2, "patch_size": 8}},
            "language": {"config": SHAPE | {"num_attention_heads": 2, "num_key_value_heads": 2}},
        }
    )
    policy = ImagePolicy.model_validate(plan.header["recipe"]["image"])
    return CuveeModel.build(config, policy, vocabulary_of(Path(plan.header["tokenizer"])))
