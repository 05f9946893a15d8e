"""Where a flow shows how far it is.

Prefect sends a flow's parameters and globals to its processes, so the bar is neither: a flow asks here.
"""

from contextvars import ContextVar

from rich.progress import Progress

_PROGRESS: ContextVar[Progress] = ContextVar("progress")


def show_in(progress: Progress) -> None:
    """Let the flows of this thread show their progress here."""
    _PROGRESS.set(progress)


def current() -> Progress:
    """Return where to show progress."""
    return _PROGRESS.get()
