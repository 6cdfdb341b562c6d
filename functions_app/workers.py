"""Processes that share the work of a command."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread

from .errors import WorkerLostError


def end_with_parent() -> None:
    """End this worker process when the one that started it is gone, however that ended, and at once on Ctrl-C.

    Otherwise a worker would go on after a kill, beside those of the command that is run again, and then wait for ever.
    Ctrl-C reaches all processes; what there is to say about it, the one that started them says.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # as after a kill of its own: what is stored is whole

    Thread(target=watch, name="end with parent", daemon=True).start()


class _Worker(SpawnProcess):
    """A process that keeps Ctrl-C for later until it calls `end_with_parent`: while it starts it could only fail."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the new process inherits it
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Workers(SpawnContext):
    # Not forked: threads and connections of this process would come along half.
    Process = _Worker


@contextmanager
def worker_processes(
    number: int, initializer: Callable[..., None] = end_with_parent, *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Processes for the work of a command.

    Args:
        number: how many.
        initializer: what each calls before its work; one of its own has to call `end_with_parent`.
        arguments: of the initializer.

    Raises:
        WorkerLostError: one of them was killed.
    """
    with ProcessPoolExecutor(number, mp_context=_Workers(), initializer=initializer, initargs=arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise WorkerLostError from None
