"""Appends of one process to one client leave together: one request for many callers, and no race among them."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

from .appending import MAX_BYTES, MAX_EVENTS
from .events import EventData
from .ports import Appended

Append = Callable[[str, Sequence[EventData]], Appended]


class _Call:
    """A caller's append; `wake` is released when it is done, or when its caller is to lead the next round."""

    __slots__ = ("error", "events", "result", "wake")

    def __init__(self, events: Sequence[EventData]) -> None:
        self.events = events
        self.wake = Lock()
        self.wake.acquire()
        self.result: Appended | None = None
        self.error: Exception | None = None


class Coalescer:
    """Lets the first caller for a client append at once; those who come meanwhile share the next append.

    Args:
        append: appends events of one client, all or none.
    """

    def __init__(self, append: Append) -> None:
        self._append = append
        self._mutex = Lock()
        self._waiting: dict[str, deque[_Call]] = {}

    def append(self, client_id: str, events: Sequence[EventData]) -> Appended:
        """Append events, perhaps together with others of the same client; raises what appending them raises."""
        call = _Call(events)
        with self._mutex:
            queue = self._waiting.setdefault(client_id, deque())
            queue.append(call)
            leads = len(queue) == 1
        if not leads:
            call.wake.acquire()
        if call.result is None and call.error is None:
            self._lead(client_id, queue)
        if call.error is not None:
            raise call.error
        assert call.result is not None  # noqa: S101 - one of the two is set once the call is awake
        return call.result

    def _lead(self, client_id: str, queue: deque[_Call]) -> None:
        with self._mutex:
            together = _fitting(queue)
        try:
            self._run(client_id, together)
        finally:
            with self._mutex:
                for call in together:
                    queue.remove(call)
                if queue:
                    queue[0].wake.release()
                else:
                    self._waiting.pop(client_id, None)
            for call in together[1:]:
                call.wake.release()

    def _run(self, client_id: str, calls: Sequence[_Call]) -> None:
        try:
            appended = self._append(client_id, [event for call in calls for event in call.events])
        except Exception as error:  # noqa: BLE001 - handed to the caller it belongs to
            if len(calls) == 1:
                calls[0].error = error
                return
            for call in calls:  # one of them is refused; the others must not suffer for it
                self._run(client_id, [call])
            return
        by_id = {event.event_id: event for event in appended.events}
        for call in calls:
            ids = [event.event_id for event in call.events]
            call.result = Appended(tuple(by_id[each] for each in ids), appended.duplicates.intersection(ids))


def _fitting(queue: deque[_Call]) -> list[_Call]:
    """The calls from the front that fit one transaction and have no event id in common."""
    fitting: list[_Call] = []
    ids: set[str] = set()
    size = 0
    for call in queue:
        more = {event.event_id for event in call.events}
        size += sum(len(event.json) for event in call.events)
        if fitting and (len(ids) + len(more) > MAX_EVENTS or size > MAX_BYTES or not ids.isdisjoint(more)):
            break
        fitting.append(call)
        ids |= more
    return fitting
