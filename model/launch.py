"""A run file -> as many training processes as it asks for, ended together."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from rich.console import Console

from model.config import RunConfig
from model.progress import Metrics

LAUNCHED = "CUVEE_LAUNCHED"
"""Set in processes that must end when their launcher does."""
GRACE = 10.0
"""Seconds between asking a process to end and ending it."""


def launch(
    config: RunConfig,
    on_step: Callable[[Metrics], None] | None = None,
    console: Console | None = None,
) -> int:
    """Train in `config.processes` processes and return the first exit code that is not 0, else 0.

    Under torchrun or the DeepSpeed launcher, which set RANK, this process is one of theirs and trains.
    `on_step` and `console` are those of `train`. Several processes cannot call `on_step`; they keep
    quiet where the console is.
    """
    if "RANK" in os.environ or config.processes == 1:
        from model.train import train

        train(config, on_step, console)
        return 0
    if config.stages:
        # Stage by stage: each has its own processes.
        return next((code for stage in config.unfold() if (code := launch(stage))), 0)
    config.output.mkdir(parents=True, exist_ok=True)
    asked = config.output / ".asked.yaml"
    asked.write_text(config.dump(), encoding="utf-8")
    port = free_port()
    children: list[subprocess.Popen[bytes]] = []
    # Only the main thread may listen to signals; a flow may run in another.
    listening = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _stop) if listening else None
    try:
        for rank in range(config.processes):
            environment = os.environ | rank_environment(rank, config.processes, port)
            command = [sys.executable, "-m", "model.train", str(asked)]
            # The children watch the pipe on their standard input: it closes when this process ends.
            children.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL if console and console.quiet else None,
                )
            )
        return _wait(children)
    finally:
        if listening:
            signal.signal(signal.SIGTERM, previous)
        end(children)


def rank_environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """Return the variables by which a process finds its place."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    root = str(Path(__file__).parent.parent)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        LAUNCHED: "1",
    }


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_with_launcher() -> None:
    """End this process when its launcher is gone, whatever ended that."""

    def watch() -> None:
        # Not sys.stdin: its lock would be in the way when the interpreter ends.
        while os.read(0, 1):
            pass
        os._exit(1)

    if LAUNCHED in os.environ:
        threading.Thread(target=watch, daemon=True, name="launcher-watch").start()


def end(children: list[subprocess.Popen[bytes]]) -> None:
    """End processes: ask, wait, then force."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = monotonic() + GRACE
    for child in children:
        try:
            child.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin:
            child.stdin.close()


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    """Return when all processes ended, or the first with an error: the others wait for it in vain."""
    while True:
        codes = [child.poll() for child in children]
        failed = [code for code in codes if code]
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(code == 0 for code in codes):
            return 0
        sleep(0.1)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
