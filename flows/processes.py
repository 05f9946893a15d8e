"""Build chunks in processes of our own, for `--runner local`.

Where no server is configured, Prefect starts one for the run and ends it with the run: seconds, for nothing
to look at later.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from pipeline.build import Built, build
from pipeline.cut import Chunk


class Processes:
    """So many processes at most, started with the first chunk that is not alone."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None
        # The first process is there after half a second of imports: chunks are cut meanwhile.
        self._sender = ThreadPoolExecutor(1)

    def built(self, chunks: Iterable[Chunk], catalog: Path) -> Iterator[Built]:
        """Build chunks while further ones are cut; yield what they became, in their order."""
        given = iter(chunks)
        ahead = list(islice(given, 2))
        if len(ahead) < 2:
            # Another process would take longer to start.
            yield from (build(chunk, catalog) for chunk in ahead)
            return
        waiting: deque[Future[Future[Built]]] = deque()
        try:
            for chunk in chain(ahead, given):
                waiting.append(self._sender.submit(self._send, chunk, catalog))
                while waiting and waiting[0].done() and waiting[0].result().done():
                    yield waiting.popleft().result().result()
            while waiting:
                yield waiting.popleft().result().result()
        finally:
            for sent in waiting:
                if not sent.cancel():
                    sent.result().cancel()

    def _send(self, chunk: Chunk, catalog: Path) -> Future[Built]:
        if self._pool is None:
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context(
                "forkserver" if "forkserver" in methods else "spawn"
            )
            # Imported once, by a process without threads, and forked from there.
            context.set_forkserver_preload([build.__module__])
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_begin)
        return self._pool.submit(build, chunk, catalog)

    def close(self) -> None:
        """End the processes once they have finished the chunks that they hold."""
        self._sender.shutdown(cancel_futures=True)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave interrupts to the parent, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def processes(workers: int | None) -> Iterator[Processes]:
    """Give processes, and end them."""
    pool = Processes(workers)
    try:
        yield pool
    finally:
        pool.close()
