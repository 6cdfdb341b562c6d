"""Counts of what reached the broker, so that a test can assert costs and wait for things without sleeping."""

import threading
from collections import Counter
from typing import Literal

Event = Literal["connections", "links", "sends", "messages", "deliveries", "settlements", "requests", "waits"]
"""connections accepted; links attached (refused ones count); sends received (a list or batch is one); messages
received in them (duplicates count); deliveries to receivers; settlements received; requests to $management; receivers
that began to wait for a free session."""


class Meter:
    """Counts by event and entity; written by the broker, read from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._changed = threading.Condition()

    def add(self, event: Event, path: str, amount: int = 1) -> None:
        """Counts something at the entity with this path (lower case)."""
        with self._changed:
            self._counts[event, path] += amount
            self._changed.notify_all()

    def count(self, event: Event, path: str | None = None) -> int:
        """How often it happened since the start or the last `reset`, at one entity or at all of them."""
        with self._changed:
            return self._count(event, path)

    def wait(self, event: Event, at_least: int, path: str | None = None, *, timeout: float = 10.0) -> None:
        """Blocks until the count is reached.

        Raises:
            TimeoutError: it was not reached within `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(event, path) >= at_least, timeout):
                count = self._count(event, path)
                raise TimeoutError(f"expected {at_least} {event} at {path or 'any entity'}, saw {count} in {timeout} s")

    def reset(self) -> None:
        """Starts all counts from zero."""
        with self._changed:
            self._counts.clear()

    def _count(self, event: Event, path: str | None) -> int:
        if path is not None:
            return self._counts[event, path.lower()]
        return sum(count for (name, _), count in self._counts.items() if name == event)
