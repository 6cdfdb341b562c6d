"""When cursors moved: what tells a backlog that is being worked off from one that nobody works on."""

from collections.abc import Callable
from datetime import datetime, timedelta

from eventstore import CheckpointStore, utc_text

_NOTED_EVERY = timedelta(seconds=30)  # a note is a write of its own; a sweep moves a cursor many times a second


class NotedCheckpoints:
    """A `CheckpointStore` that also notes, beside each cursor, when it was moved.

    Args:
        checkpoints: keeps cursors and notes.
        clock: present time.
    """

    def __init__(self, checkpoints: CheckpointStore, clock: Callable[[], datetime]) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._noted: dict[str, datetime] = {}

    def load(self, name: str) -> str | None:
        """See `CheckpointStore.load`."""
        return self._checkpoints.load(name)

    def save(self, name: str, cursor: str) -> None:
        """See `CheckpointStore.save`."""
        self._checkpoints.save(name, cursor)
        self._note(name)

    def create(self, name: str, cursor: str) -> str:
        """See `CheckpointStore.create`."""
        stored = self._checkpoints.create(name, cursor)
        self._note(name)
        return stored

    def _note(self, name: str) -> None:
        now = self._clock()
        noted = self._noted.get(name)
        if noted is None or now - noted >= _NOTED_EVERY:
            self._checkpoints.save(_note(name), utc_text(now))
            self._noted[name] = now


def moved_at(checkpoints: CheckpointStore, name: str) -> datetime | None:
    """When a cursor was moved, to half a minute; None if it never was."""
    noted = checkpoints.load(_note(name))
    return None if noted is None else datetime.fromisoformat(noted)


def _note(name: str) -> str:
    return f"{name}:moved"
