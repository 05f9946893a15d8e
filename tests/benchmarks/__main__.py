"""All benchmarks, one process each, and at the end one table of what is measured against a bar.

python -m tests.benchmarks [name ...]
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from tests.benchmarks.timing import RESULTS, Told

ALL = (
    "access",
    "pixels",
    "end_to_end",
    "stall",
    "resume",
    "memory",
    "remote",
    "packing",
    "cost",
    "plan",
    "ingest",
)


def run(name: str, told: Path) -> bool:
    """Run a benchmark; its figures go to `told`, and its words to where ours go."""
    # Not imported: what one benchmark lacks shall not stop the others.
    doc = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())) or name
    print(f"\n## {name}\n\n{doc.splitlines()[0]}", flush=True)
    started = perf_counter()
    words = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{name}"]
    done = subprocess.run(words, env=os.environ | {RESULTS: str(told)}, check=False)
    print(f"\n{name}: {perf_counter() - started:.0f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    """Print everything; return 1 where a benchmark broke."""
    names = sys.argv[1:] or ALL
    if unknown := set(names) - set(ALL):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
        return 2
    broken, started = [], perf_counter()
    lines = [
        "| benchmark | against | ours | theirs | ratio | bar |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            told = Path(folder) / name
            if not run(name, told):
                broken.append(name)
            for line in told.read_text().splitlines() if told.exists() else []:
                row = Told(**json.loads(line))
                lines.append(
                    f"| {row.what} | {row.against} | {row.ours} | {row.theirs} | {row.ratio} | {row.bar} |"
                )
    print(f"\n{perf_counter() - started:.0f} s\n")
    print("\n".join(lines))
    if broken:
        print(f"\nbroken: {', '.join(broken)}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
