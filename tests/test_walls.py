"""The walls of the house: imports point one way, heavy packages stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "catalog": set[str](),
    "pipeline": {"catalog"},
    "model": {"catalog", "pipeline"},
    "flows": {"catalog", "pipeline", "model"},
}
ONLY_IN = {"deltalake": ("catalog/",), "prefect": ("flows/",), "deepspeed": ("model/",)}
TORCH = (
    "model/",
    "pipeline/batch.py",
    "pipeline/buffers.py",
    "pipeline/collate.py",
    "pipeline/image.py",
    "pipeline/packed.py",
)


def imported(file: Path) -> set[str]:
    """Return the top-level packages a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


FILES = [file for package in MAY_IMPORT for file in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    place = file.relative_to(ROOT).as_posix()
    package = place.split("/")[0]
    names = imported(file)
    assert not (names & set(MAY_IMPORT)) - MAY_IMPORT[package] - {package}
    for heavy, rooms in ONLY_IN.items():
        assert heavy not in names or place.startswith(rooms), f"{heavy} belongs in {rooms}"
    assert "torch" not in names or place.startswith(TORCH)


@pytest.mark.parametrize("command", ["sources", "peek", "stats", "tokens", "trace"])
def test_commands_that_only_look_import_neither_prefect_nor_torch(command: str) -> None:
    code = (
        "import sys\n"
        "from flows.cli import main\n"
        f"sys.argv = ['cuvee', '{command}', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'prefect', 'torch', 'deepspeed', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
