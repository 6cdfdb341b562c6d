"""The ends of the streams that this process appended to lately: what saves an append from looking first.

A head kept in mind may be stale, since other processes append too. That is safe where the database itself refuses a
version or an event id that is taken: a stale head then costs a conflict and nothing else.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from .events import RecordedEvent, StreamHead
from .ports import ANY, ExpectedVersion

_HEADS = 10_000
_SECONDS = 300.0


class RecentHeads:
    """At most 10,000 heads, each for five minutes.

    Args:
        monotonic: seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._mutex = Lock()
        self._heads: OrderedDict[str, tuple[StreamHead, float]] = OrderedDict()

    def get(self, client_id: str, expected: ExpectedVersion) -> StreamHead | None:
        """The head, if it is known, young, and at the expected version."""
        found = self._heads.get(client_id)
        if found is None or self._monotonic() >= found[1]:
            return None
        head = found[0]
        return head if expected is ANY or expected == head.version else None

    def put(self, client_id: str, last: RecordedEvent) -> None:
        """Remember the last event once it is durable, and forget the stream that was appended to longest ago."""
        entry = StreamHead(last.version, last.hash, last.recorded_at), self._monotonic() + _SECONDS
        with self._mutex:
            present = self._heads.get(client_id)
            if present is not None and present[0].version > last.version:
                return
            self._heads[client_id] = entry
            self._heads.move_to_end(client_id)
            if len(self._heads) > _HEADS:
                self._heads.popitem(last=False)

    def drop(self, client_id: str) -> None:
        """Forget a head that turned out to be stale."""
        with self._mutex:
            self._heads.pop(client_id, None)
