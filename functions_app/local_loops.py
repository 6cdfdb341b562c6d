"""Work that goes on beside the requests: one thread per loop, started again when it fails."""

import logging
import threading
from typing import Protocol

from .problems import log_unexpected

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

_log = logging.getLogger(__name__)


class Loop(Protocol):
    """Something that works until it is told to stop, such as following the change feed."""

    @property
    def name(self) -> str:
        """Unique among the loops of a host."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then return soon."""


class LoopThread:
    """A loop in a thread of its own.

    A loop that raises is started again after a pause: 1 second, then twice as long each time, at most 30. The thread is
    a daemon, so a loop that does not obey cannot keep the process alive.

    Args:
        loop: what to run.
        stop: set to end it; also ends a pause.
    """

    def __init__(self, loop: Loop, stop: threading.Event) -> None:
        self.name = loop.name
        self.failures = 0
        self._loop = loop
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name=loop.name, daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until the loop has ended, at most `timeout` seconds; one that has not is named in the log."""
        self._thread.join(timeout)
        if self.running:
            _log.error("Loop %s did not stop in time and is left behind", self.name)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._loop.run(self._stop)
            except BaseException as error:  # noqa: BLE001 - a thread that ends with SystemExit would end without a word
                self.failures += 1
                log_unexpected(error)
                _log.error("Loop %s failed; it starts again in %g seconds", self.name, pause)
                self._stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return
