"""Waiting for something that happens in another thread or process."""

from collections.abc import Callable
from threading import Event
from time import monotonic

PATIENCE = 30.0
"""Seconds until what should happen soon counts as not happening."""

_LOOK = 0.02


def wait_until(what: str, holds: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Return as soon as a condition holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    deadline = monotonic() + seconds
    pause = Event()
    while not holds():
        if monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} seconds in vain until {what}")
        pause.wait(_LOOK)
