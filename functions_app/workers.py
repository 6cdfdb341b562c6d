"""Processes that share the work of a command."""

import os
from multiprocessing import parent_process
from threading import Thread


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
