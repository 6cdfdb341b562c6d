"""Processes that share the work of a command."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

from .errors import WorkerLostError


def end_with_parent() -> None:
    """End this worker process when the one that started it is gone, however that ended.

    Otherwise a worker would go on after a kill, beside those of the command that is run again, and then wait for ever.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # as after a kill of its own: what is stored is whole

    Thread(target=watch, name="end with parent", daemon=True).start()


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
    # Not forked: threads and connections of this process would come along half.
    spawned = get_context("spawn")
    with ProcessPoolExecutor(number, mp_context=spawned, initializer=initializer, initargs=arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise WorkerLostError from None
