"""Bounds the calls to one target without holding a thread that waits."""

from threading import Lock

_WAITING = 10_000  # client ids remembered; the due listing has the others


class Slots:
    """Places for calls. Who finds none leaves the client behind; who has one takes over what was left.

    So a slow target holds at most `size` threads, and a burst is worked off without waiting for a sweep.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: dict[str, None] = {}
        self._lock = Lock()

    def take(self, client_id: str) -> bool:
        """Whether there was a place; if not, the client is left to those who have one."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if len(self._waiting) < _WAITING:
                self._waiting[client_id] = None
            return False

    def take_over(self) -> str | None:
        """A client that was left behind; None gives the place back, since there is none."""
        with self._lock:
            for client_id in self._waiting:
                del self._waiting[client_id]
                return client_id
            self._free += 1
            return None

    def leave(self) -> None:
        """Give the place back, whoever waits."""
        with self._lock:
            self._free += 1
