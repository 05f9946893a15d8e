"""A run file: what is trained, on which plan, and how."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from catalog.remote import is_remote
from model.connector.config import MLP, Connector
from pipeline.config import load_yaml
from pipeline.typed import Typed

Weighting = Literal["token", "sample", "sqrt"]
Part = Literal["vision", "connector", "language"]
PARTS: tuple[Part, ...] = ("vision", "connector", "language")


def shipped_runs() -> dict[str, Path]:
    """Return name -> file of the run files that ship with the program, to be copied and filled in."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "runs").glob("*.yaml"))}


def _beside(path: Path, info: ValidationInfo) -> Path:
    """Return a path of the run file as an absolute one."""
    folder = (info.context or {}).get("folder", Path())
    return path if path.is_absolute() else (folder / path).absolute()


class Tower(Typed):
    """Where a model comes from: a local folder with weights, or a `transformers` configuration."""

    path: Path | None = None
    config: dict[str, Any] | None = None
    """Fields of the `transformers` configuration, `model_type` among them; weights are random."""
    residual: float = Field(default=1.0, ge=0, le=1)
    """Random weights that end a residual branch are multiplied by this: at 0 a tower begins as the
    identity, and learns sooner (https://arxiv.org/abs/1901.09321)."""

    @field_validator("path")
    @classmethod
    def _from_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return path and _beside(path, info)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.path is None) == (self.config is None):
            raise ValueError("give either `path` or `config`")
        return self


class Optim(Typed):
    """AdamW under a cosine schedule with linear warm-up, stepped once a plan step."""

    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    groups: dict[Part, float] = Field(default_factory=dict)
    """Learning rates that differ from `lr`."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a share of the highest."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Not applied to biases and norms."""
    clip: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Largest norm of the gradient; 0 for none."""

    @field_validator("groups")
    @classmethod
    def _positive(cls, groups: dict[Part, float]) -> dict[Part, float]:
        if any(not 0 < rate < float("inf") for rate in groups.values()):
            raise ValueError("learning rates are above 0; use `freeze` for parts that do not learn")
        return groups

    def lr_of(self, part: Part) -> float:
        """Return the highest learning rate of a part."""
        return self.groups.get(part, self.lr)


class LoRA(Typed):
    """Low-rank adapters in the language model, whose own weights stay; merged when the model is saved.

    https://arxiv.org/abs/2106.09685, by `peft`.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    """Adapters count `alpha / rank`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Ends of the names of layers, such as q_proj; by default all linear layers but the head."""


class Locations(Typed):
    """What counts beside the cross-entropy of location tokens, where the plan's boxes are `pix2emb`.

    NExT-Chat, https://arxiv.org/abs/2311.04498, section 3.2; weights of the box as in DETR,
    https://arxiv.org/abs/2005.12872.
    """

    l1: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Of the sum of a box's four differences, in fractions of the picture."""
    giou: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    mask: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Of the mean cross-entropy of a mask's cells, where the record has a mask."""
    cycle: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Of the differences of a box that is encoded and decoded again."""


class Fine(Typed):
    """A high-resolution branch as in CogAgent, for plans whose image policy has a `fine` look."""

    vision: Tower
    width: int = Field(default=1024, ge=1)
    """Hidden width of the cross-attentions."""
    heads: int = Field(default=32, ge=1)
    every: int = Field(default=1, ge=1)
    """Decoder layers to one with cross-attention."""


class Stage(Typed):
    """One of several trainings, one after the other; what is left out is as in the run file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Of the stage's folder in `output/stages`; the last stage's files lie in `output` itself."""
    plan: str | None = None
    recipe: Path | None = None
    """Planned when the stage begins; or name a `plan`."""
    steps: int | None = Field(default=None, ge=1)
    optim: Optim | None = None
    """Over the run's own `optim`: what is left out is as there."""
    freeze: tuple[Part, ...] | None = None
    lora: LoRA | None = None
    micro_batch: int | None = Field(default=None, ge=1)
    weighting: Weighting | None = None

    @field_validator("recipe")
    @classmethod
    def _from_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return path and _beside(path, info)


class RunConfig(Typed):
    """A run file; relative paths are relative to it."""

    catalog: Path | str
    """A folder; or a catalog's URL on an object store, whose credentials stand in the environment."""
    plan: str = ""
    """Plan id or its beginning; empty where the catalog has only one."""
    recipe: Path | None = None
    """Planned when the run begins, instead of a `plan` that was made before."""
    output: Path
    seed: int = Field(default=0, ge=0)
    vision: Tower
    language: Tower
    connector: Connector = MLP()
    optim: Optim = Optim()
    freeze: tuple[Part, ...] = ()
    lora: LoRA | None = None
    connector_from: Path | None = None
    """Weights the connector starts from: `connector.safetensors` of a model that was trained before; or a
    run's folder, whose connector is carried over to another language model (VPGTrans)."""
    locations: Locations = Locations()
    fine: Fine | None = None
    stages: tuple[Stage, ...] = ()
    weighting: Weighting = "token"
    """What counts alike in the loss: every learnt token, every sample, or between the two, a sample as
    the square root of its learnt tokens (InternVL 2.5, https://arxiv.org/abs/2412.05271, section 3.3)."""
    steps: int | None = Field(default=None, ge=1)
    """Stop after so many steps of the plan; the schedule ends there."""
    precision: Literal["fp32", "bf16"] = "fp32"
    engine: Literal["deepspeed", "fsdp2"] = "deepspeed"
    """What spreads the work: DeepSpeed, as `zero` says, or torch's FSDP2, which cuts all that ZeRO 3 cuts."""
    zero: Literal[0, 1, 2, 3] = 0
    offload: bool = False
    """Keep the optimizer's state, and its work, in the host's memory; from ZeRO 1 on."""
    gradient_checkpointing: bool = False
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    micro_batch: int = Field(default=8, ge=1)
    """Packs in one forward pass."""
    processes: int = Field(default=1, ge=1)
    workers: int = Field(default=2, ge=0)
    """Loader threads a process."""
    verify: bool = False
    """Hash every picture when it is read."""
    on_damage: Literal["stop", "substitute"] = "stop"
    """Stop at a damaged picture, or count it, show grey in its place and learn nothing from its sample."""
    checkpoint_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept."""

    @model_validator(mode="before")
    @classmethod
    def _stages_inherit(cls, values: Any) -> Any:
        """Put the run's `optim` under those of its stages."""
        if not isinstance(values, dict) or not isinstance(values.get("stages"), list | tuple):
            return values
        common, stages = values.get("optim"), []
        for stage in values["stages"]:
            mine = stage.get("optim") if isinstance(stage, dict) else None
            if isinstance(common, dict) and isinstance(mine, dict):
                stage = {**stage, "optim": {**common, **mine}}
            stages.append(stage)
        return {**values, "stages": stages}

    @field_validator("catalog")
    @classmethod
    def _place(cls, place: Path | str, info: ValidationInfo) -> Path | str:
        return place if is_remote(place) else _beside(Path(place), info)

    @field_validator("output")
    @classmethod
    def _from_file(cls, path: Path, info: ValidationInfo) -> Path:
        return _beside(path, info)

    @field_validator("freeze")
    @classmethod
    def _something_learns(cls, freeze: tuple[Part, ...]) -> tuple[Part, ...]:
        if set(freeze) == set(PARTS):
            raise ValueError("everything is frozen: leave one part to learn")
        return freeze

    @field_validator("connector_from", "recipe")
    @classmethod
    def _weights(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return path and _beside(path, info)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.offload and not self.zero:
            raise ValueError("`offload` is ZeRO's: set `zero` to 1, 2 or 3")
        if self.zero and self.engine == "fsdp2":
            raise ValueError("`zero` is DeepSpeed's: leave it out with `engine: fsdp2`")
        if self.lora and "language" in self.freeze:
            raise ValueError(
                "LoRA freezes the language model's own weights: take it out of `freeze`"
            )
        if self.recipes and is_remote(self.catalog):
            raise ValueError("a recipe is planned where the catalog's folder is: name the `plan`")
        if any(plan and recipe for plan, recipe in self._sources()):
            raise ValueError("give either `plan` or `recipe`")
        names = [stage.name for stage in self.stages]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"stages named twice: {', '.join(sorted(twice))}")
        for stage in self.stages:
            if set(stage.freeze or ()) == set(PARTS):
                raise ValueError(f"stage {stage.name}: everything is frozen")
            freeze = self.freeze if stage.freeze is None else stage.freeze
            if (stage.lora or self.lora) and "language" in freeze:
                raise ValueError(f"stage {stage.name}: LoRA and `freeze` of the language model")
        return self

    def _sources(self) -> list[tuple[str | None, Path | None]]:
        return [(self.plan, self.recipe), *((stage.plan, stage.recipe) for stage in self.stages)]

    @property
    def recipes(self) -> list[Path]:
        """The recipes that this run and its stages name."""
        return [recipe for _, recipe in self._sources() if recipe is not None]

    def unfold(self) -> list[Self]:
        """Return one run a stage, in order; each starts from the model of the one before.

        The last one's folder is the run's own, the others' lie in `stages`.
        """
        runs: list[Self] = []
        for number, stage in enumerate(self.stages, start=1):
            chosen = stage.model_dump(exclude={"name"}, exclude_none=True)
            values = {**self.model_dump(), **chosen, "stages": ()}
            if "plan" in chosen or "recipe" in chosen:
                values |= {"plan": stage.plan or "", "recipe": stage.recipe}
            if number < len(self.stages):
                values["output"] = self.output / "stages" / stage.name
            if runs:
                model = runs[-1].output / "model"
                values |= {"connector_from": model / "connector.safetensors"}
                values |= {part: {"path": model / part} for part in ("vision", "language")}
                if self.fine is not None:
                    values["fine"] |= {"vision": {"path": model / "fine"}}
            runs.append(self.model_validate(values))
        return runs or [self]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a run file.

        Raises:
            UserError: with file, line and field.
        """
        return load_yaml(path, cls)

    def dump(self) -> str:
        """Return the run file with every default written out."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text

    def identity(self) -> dict[str, Any]:
        """Return what must not change between a run and its continuation.

        How the work is spread (processes, ZeRO stage, micro-batch, workers) may change.
        """
        names = {"seed", "vision", "language", "connector", "optim", "freeze", "precision"}
        values: dict[str, Any] = self.model_dump(mode="json", include=names)
        # Settings that came later count only where they are used: older runs go on.
        later = {"lora", "connector_from", "weighting", "locations", "fine"}
        return values | self.model_dump(mode="json", include=later, exclude_defaults=True)
