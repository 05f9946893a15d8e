"""Image policies of published models by name, and what a picture costs under one."""

from pathlib import Path

import yaml
from rich.table import Table

from catalog.errors import UserError
from pipeline.policy import ImagePolicy

POLICIES = {
    # CLIP ViT-L/14 sees (size / 14)**2 patches.
    "clip-224": ImagePolicy(size=224, tokens=256),
    "clip-336": ImagePolicy(size=336, tokens=576),
    "clip-448": ImagePolicy(size=448, tokens=1024),
    "llava-1.5": ImagePolicy(kind="pad", size=336, tokens=576),
    "llava-next": ImagePolicy(kind="anyres", size=336, tokens=576),
    "llava-next-unpad": ImagePolicy(kind="anyres", size=336, tokens=576, unpad=True),
    "qwen-vl": ImagePolicy(size=448, tokens=256),
    "internvl-1.5": ImagePolicy(kind="slices", size=448, tokens=256, max_slices=12),
    "minicpm-v-2.5": ImagePolicy(kind="adaptive", size=448, tokens=96, max_slices=9),
    "minicpm-v-2.6": ImagePolicy(kind="adaptive", size=448, tokens=64, max_slices=9),
    "minicpm-v-2.6-shaped": ImagePolicy(
        kind="adaptive", size=448, tokens=64, max_slices=9, patch=14
    ),
    "cogagent": ImagePolicy(size=224, tokens=256, fine=1120),
    "sphinx": ImagePolicy(kind="fixed", size=224, tokens=256),
    "mm1": ImagePolicy(kind="fixed", size=672, tokens=144),
}


def patch_tokens(size: int, patch: int = 14, merge: int = 1) -> int:
    """Return the visual tokens of a tile, patches merged by `merge` a side.

    >>> [patch_tokens(size) for size in (224, 336, 448)], patch_tokens(448, merge=2)
    ([256, 576, 1024], 256)
    """
    return (size // patch // merge) ** 2


def find_policy(name: str) -> ImagePolicy:
    """Return a policy by name, or the one of a recipe (YAML).

    Raises:
        UserError: there is neither.
    """
    if name in POLICIES:
        return POLICIES[name]
    if Path(name).suffix in (".yaml", ".yml"):
        from pipeline.mixture import Mixture

        return Mixture.load(Path(name)).image
    raise UserError(
        f"no image policy {name!r}", fix=f"a recipe (YAML), or one of {', '.join(POLICIES)}"
    )


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height.

    Raises:
        UserError: they are not spelt WIDTHxHEIGHT.

    >>> parse_size("640x480")
    (640, 480)
    """
    numbers = text.lower().split("x")
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() and int(n) for n in numbers):
        raise UserError(f"{text!r} is no picture size", fix="write WIDTHxHEIGHT, such as 640x480")
    return int(numbers[0]), int(numbers[1])


def describe(width: int, height: int, policy: ImagePolicy) -> dict[str, object]:
    """Return a picture's grid, tiles, visual tokens and what each tile shows of it."""
    tiles = int(policy.tiles([width], [height])[0])
    columns, rows = policy.grid(width, height)
    return {
        "width": width,
        "height": height,
        "columns": columns,
        "rows": rows,
        "tiles": tiles,
        "tokens": int(policy.visual([width], [height])[0]),
        "frames": [[round(edge, 2) for edge in box] for box in policy.frames(width, height)],
    }


def table(sizes: list[tuple[int, int]], policy: ImagePolicy) -> Table:
    """Return one row a picture size."""
    settings = yaml.safe_dump(policy.model_dump(mode="json"), default_flow_style=True, width=1000)
    found = Table(title=settings.strip(), title_justify="left")
    for column in ("picture", "slices", "tiles", "visual tokens", "pixels a token"):
        found.add_column(column, justify="right")
    for width, height in sizes:
        told = describe(width, height, policy)
        tokens = int(str(told["tokens"]))
        found.add_row(
            f"{width} x {height}",
            f"{told['columns']} x {told['rows']}",
            str(told["tiles"]),
            f"{tokens:,}",
            f"{width * height / tokens:,.0f}",
        )
    return found
