"""README is true: a dataset is added as it says, and its tables are those of `SOURCES`.

`python -m tests.test_readme` writes the tables anew.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.listing import sources_markdown
from tests.official import write_picture

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLES = re.compile(r"(<!-- sources -->\n).*?(<!-- /sources -->)", re.DOTALL)
BLOCK = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """Return a section of README, without its heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README.read_text(), re.DOTALL | re.M)
    assert found, f"README has no section {title!r}"
    return found[1]


def with_tables(text: str) -> str:
    """Return README with the tables of today's sources."""
    return TABLES.sub(lambda found: f"{found[1]}{sources_markdown()}\n\n{found[2]}", text)


def test_the_tables_are_those_of_the_sources() -> None:
    text = README.read_text()
    assert TABLES.search(text)
    assert text == with_tables(text), "run `python -m tests.test_readme`"


def test_the_command_prints_the_tables() -> None:
    printed = CliRunner().invoke(app, ["sources", "--markdown"])
    assert printed.stdout == sources_markdown() + "\n"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages, without the other fixtures."""
    for name in ("catalog", "pipeline", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests/__init__.py", "tests/pipeline/test_sources.py", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests" / "data" / "expected").mkdir(parents=True)
    return tmp_path


def test_a_dataset_is_added_as_it_says(house: Path) -> None:
    text = section("Adding a dataset")
    blocks = dict(BLOCK.findall(text))
    assert len(blocks) == 2, "one file, one fixture"
    for name, code in blocks.items():
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(code)
    sources = house / "pipeline" / "sources" / "__init__.py"
    sources.write_text(patched(sources.read_text(), text))
    write_picture(house / "tests" / "data" / "menu" / "photos" / "a.png", 0, (8, 6))

    shown = run(house, "-c", "from flows.cli import main; main()", *peek(text))
    items = [json.loads(line) for line in shown.splitlines()]
    assert [item.get("refused") for item in items] == [None, "wrong_type"]
    assert items[0]["extra"] == {"id": 7, "table": 4}
    (house / "tests/data/expected/menu.json").write_text(json.dumps(items))

    end = run(house, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen(text)).splitlines()[-1]
    assert re.match(r"[4-9] passed", end), end


def patched(code: str, text: str) -> str:
    """Return code with the lines that the README's diff adds before and behind the one it shows."""
    [diff] = DIFF.findall(text)
    before, shown, behind = (line for line in diff.splitlines() if line.strip())
    assert shown[1:] in code
    return code.replace(shown[1:], f"{before[1:]}\n\n{shown[1:]}\n{behind[1:]}")


def peek(text: str) -> list[str]:
    """Return the words of the README's `cuvee peek … --json`."""
    found = re.search(r"^cuvee (peek .* --json)", text, re.M)
    assert found
    return found[1].split()


def chosen(text: str) -> list[str]:
    """Return the words of the README's pytest."""
    found = re.search(r"^pytest (.*)$", text, re.M)
    assert found
    return found[1].split()


def run(house: Path, *words: str) -> str:
    """Run Python on the copy; return what it prints."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=house,
        env={"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
