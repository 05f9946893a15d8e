"""The connectors a run file can choose, and how many visual tokens each makes of a tile."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from pipeline.typed import Typed


class Merging(Typed):
    """Neighbouring patches side by side become one visual token."""

    merge: int = Field(default=1, ge=1)
    """Patches a side: 2 makes four patches one token."""
    shape: Literal["square", "row"] = "square"
    """Squares of patches (pixel shuffle), or as many patches one after the other."""

    def tokens(self, side: int) -> float:
        """Return the visual tokens of a tile of `side` x `side` patches; a fraction if it does not fit."""
        if self.shape == "row":
            # MiniGPT-v2 joins patches of one row of the picture.
            return side * (side / self.merge**2)
        return (side / self.merge) ** 2

    def words(self) -> str:
        """Say what is done with the patches."""
        if self.shape == "row":
            return f"merged {self.merge**2} of a row"
        return f"merged {self.merge} x {self.merge}"


class Linear(Merging):
    """One linear layer: LLaVA (merge 1), MiniGPT-v2 (merge 2, shape row)."""

    kind: Literal["linear"] = "linear"


class MLP(Merging):
    """Norm and two layers: LLaVA 1.5 (merge 1), InternVL 1.5 and Phi-3-vision (merge 2)."""

    kind: Literal["mlp"] = "mlp"


class Region(Typed):
    """Low-resolution features ask the high-resolution ones of their own region: TokenPacker."""

    kind: Literal["region"] = "region"
    merge: int = Field(default=2, ge=1)
    """Patches along a region's side."""
    heads: int = Field(default=8, ge=1)

    def tokens(self, side: int) -> float:
        """Return the visual tokens of a tile of `side` x `side` patches; a fraction if it does not fit."""
        return (side / self.merge) ** 2

    def words(self) -> str:
        """Say what is done with the patches."""
        return f"asked by regions of {self.merge} x {self.merge}"


class _Queries(Typed):
    queries: int = Field(default=64, ge=1)

    def tokens(self, side: int) -> float:
        """Return the visual tokens of a tile, whatever its patches."""
        return float(self.queries)

    def words(self) -> str:
        """Say what is done with the patches."""
        return f"asked by {self.queries} queries"


class Resampler(Typed):
    """A square grid of learned queries and one cross-attention: Qwen-VL, MiniCPM-V."""

    kind: Literal["resampler"] = "resampler"
    grid: int = Field(default=8, ge=1)
    """Queries a side: 16 for Qwen-VL, 8 for MiniCPM-V 2.6."""
    heads: int = Field(default=8, ge=1)

    def tokens(self, side: int) -> float:
        """Return the visual tokens of a tile, whatever its patches."""
        return float(self.grid**2)

    def words(self) -> str:
        """Say what is done with the patches."""
        return f"asked by a grid of {self.grid} x {self.grid} queries"


class Perceiver(_Queries):
    """Learned queries through several layers of cross-attention: Flamingo, Idefics2."""

    kind: Literal["perceiver"] = "perceiver"
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=8, ge=1)


class QFormer(_Queries):
    """A small transformer of learned queries that look at the patches in every second layer: BLIP-2."""

    kind: Literal["qformer"] = "qformer"
    queries: int = Field(default=32, ge=1)
    layers: int = Field(default=4, ge=1)
    every: int = Field(default=2, ge=1)
    """Layers to one with cross-attention."""
    width: int = Field(default=768, ge=1)
    heads: int = Field(default=12, ge=1)


def _kind(value: Any) -> Any:
    # `kind` came later than run files without it.
    return value.get("kind", "mlp") if isinstance(value, dict) else getattr(value, "kind", None)


Connector: TypeAlias = Annotated[
    Annotated[Linear, Tag("linear")]
    | Annotated[MLP, Tag("mlp")]
    | Annotated[Region, Tag("region")]
    | Annotated[Resampler, Tag("resampler")]
    | Annotated[Perceiver, Tag("perceiver")]
    | Annotated[QFormer, Tag("qformer")],
    Discriminator(_kind),
]
