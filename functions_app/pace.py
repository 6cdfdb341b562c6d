"""A pace for work that must leave room for others: events a second, or request units of Cosmos DB."""

from collections.abc import Callable, Iterator
from itertools import islice
from threading import Lock
from time import monotonic, sleep

from eventstore import EventStore, RecordedEvent

_SPARED = 0.9  # of the rate is used, so that what is only known afterwards does not break it
_STEPS = 10  # portions of one second
_LARGEST = 90


class Pace:
    """Makes whoever spends wait until it is paid for.

    In no ten seconds more than ten times the rate is spent, as long as nothing that is spent at once costs more than one
    second's worth, and one thread spends at a time.

    Args:
        rate: units a second at most.
        clock: seconds that pass, wherever they start.
        pause: waits some seconds.
    """

    def __init__(
        self, rate: float, *, clock: Callable[[], float] = monotonic, pause: Callable[[float], None] = sleep
    ) -> None:
        self.rate = rate
        self._clock, self._pause = clock, pause
        self._mutex = Lock()
        self._paid_until = clock()

    def spend(self, amount: float) -> None:
        """Account for what was just spent; returns when it is paid for."""
        with self._mutex:
            self._paid_until = max(self._paid_until, self._clock()) + amount / (self.rate * _SPARED)
            wait = self._paid_until - self._clock()
        if wait > 0:
            self._pause(wait)


class PacedReads:
    """An `EventStore` that is read at a pace of events a second."""

    def __init__(self, events: EventStore, pace: Pace) -> None:
        self.append, self.head, self.foreign = events.append, events.head, events.foreign
        self._events = events
        self._pace = pace
        self._portion = max(1, min(_LARGEST, int(pace.rate / _STEPS)))

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`."""
        events = self._events.read(client_id, after=after, until=until)
        while portion := list(islice(events, self._portion)):
            yield from portion
            self._pace.spend(len(portion))
