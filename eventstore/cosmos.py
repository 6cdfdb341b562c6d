"""The event store on Cosmos DB.

A stream is one logical partition. An event's document id is its version and its event id is a unique key, so the
service itself lets nobody write a version or an event twice. Everything else follows from that: a write that was refused
or got no answer is settled by reading back which of its events are there.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from random import random
from typing import Any

from azure.cosmos import ContainerProxy

from .appending import check_append, check_expected_version, still_to_append
from .client_id import check_client_id
from .coalescing import Coalescer
from .cosmos_client import WriteConflictError, cosmos_query, create_all
from .cosmos_event import event_document, event_in, stands_at
from .errors import ContentionError, EventIdReusedError, HistoryForkedError, StoreUnavailableError
from .events import EMPTY_STREAM, EventData, RecordedEvent, StreamHead, record_events
from .ports import ANY, NO_STREAM, Appended, ExpectedVersion
from .recent_heads import RecentHeads

EVENTS_CONTAINER: dict[str, Any] = {
    "id": "events",
    "partition_key": "/client_id",
    "unique_keys": ["/event_id"],
    # The payload is never searched, and indexing it would multiply the price of every append.
    "indexed": ["/client_id/?", "/version/?", "/event_id/?", "/event_type/?"],
}

_ROUNDS = 8
_PAGE = 500
_IDS = 1000  # of one page
_BACKOFF = 0.02  # seconds
_MAX_VERSION = 10**12 - 1
_FIELDS = ", ".join(f"c.{name}" for name in ("id", *RecordedEvent._fields))


class CosmosEventStore:
    """`EventStore` on a container as described by `EVENTS_CONTAINER`.

    Costs in requests: 1 for a client this process appended to lately, 2 for another, at most 3 for a repeat.

    Args:
        container: the container.
        clock: source of `recorded_at`.
        monotonic: seconds that only grow.
        sleep: waits so many seconds between rounds.
        random: uniform in [0, 1), for jitter.
    """

    def __init__(
        self,
        container: ContainerProxy,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random,  # noqa: S311 - jitter
    ) -> None:
        self._container = container
        self._clock, self._sleep, self._random = clock, sleep, random
        self._heads = RecentHeads(monotonic)
        self._coalescer = Coalescer(lambda client_id, events: self._append(client_id, events, ANY))

    def append(self, client_id: str, events: Sequence[EventData], *, expected_version: ExpectedVersion) -> Appended:
        """See `EventStore.append`.

        Raises:
            StoreRefusedError: the service will never take it, as for a partition that is full.
        """
        check_append(client_id, events)
        if expected_version is ANY:
            return self._coalescer.append(client_id, events)
        return self._append(client_id, events, expected_version)

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`."""
        check_client_id(client_id)
        documents = cosmos_query(
            self._container,
            f"SELECT {_FIELDS} FROM c WHERE c.client_id = @client_id AND c.version > @after AND c.version <= @until "  # noqa: S608 - a constant list of columns
            "ORDER BY c.version",
            client_id,
            page=_PAGE,
            client_id=client_id,
            after=min(max(after, 0), _MAX_VERSION),
            until=_MAX_VERSION if until is None else min(max(until, 0), _MAX_VERSION),
        )
        return self._events(client_id, documents)

    def _events(self, client_id: str, documents: Iterator[dict[str, Any]]) -> Iterator[RecordedEvent]:
        for document in documents:
            event = event_in(document)
            if event is not None:
                yield event
            elif version := stands_at(document):
                raise HistoryForkedError(client_id, version)

    def head(self, client_id: str) -> StreamHead:
        """See `EventStore.head`."""
        check_client_id(client_id)
        found = cosmos_query(
            self._container,
            "SELECT c.id, c.version, c.hash, c.recorded_at FROM c WHERE c.client_id = @client_id "
            "ORDER BY c.version DESC",
            client_id,
            page=1,  # nearly always enough, and then the only one that is asked for
            client_id=client_id,
        )
        for document in found:
            if version := stands_at(document):
                return StreamHead(version, document.get("hash", ""), document.get("recorded_at", ""))
        return EMPTY_STREAM

    def foreign(self, client_id: str) -> Sequence[str]:
        """See `EventStore.foreign`: a request for each thousand documents."""
        check_client_id(client_id)
        documents = cosmos_query(
            self._container,
            "SELECT c.id, c.version FROM c WHERE c.client_id = @client_id",
            client_id,
            page=_IDS,
            client_id=client_id,
        )
        return [str(document["id"]) for document in documents if not stands_at(document)]

    def _append(self, client_id: str, events: Sequence[EventData], expected: ExpectedVersion) -> Appended:
        tried: set[str] = set()  # hashes this call may have stored: finding one is no repeat
        stored: dict[str, RecordedEvent] = {}
        fresh = list(events)
        head = EMPTY_STREAM
        if expected != NO_STREAM:
            head = self._heads.get(client_id, expected) or self._sound_head(client_id)
        trouble: StoreUnavailableError | WriteConflictError | None = None
        for attempt in range(_ROUNDS):
            if expected is ANY or expected == head.version:
                recorded = record_events(client_id, head, fresh, self._clock())
                tried.update(event.hash for event in recorded)
                trouble = self._create(client_id, recorded)
                if trouble is None:
                    self._heads.put(client_id, recorded[-1])
                    stored.update((event.event_id, event) for event in recorded)
                    return _appended(events, stored, tried)
            self._heads.drop(client_id)
            stored = self._stored(client_id, [event.event_id for event in events])
            fresh = still_to_append(client_id, events, stored)
            if not fresh:
                return _appended(events, stored, tried)
            head = self._sound_head(client_id)
            check_expected_version(client_id, expected, head)
            self._sleep(self._random() * _BACKOFF * 2**attempt)
        raise trouble if isinstance(trouble, StoreUnavailableError) else ContentionError(client_id, _ROUNDS)

    def _sound_head(self, client_id: str) -> StreamHead:
        """The end of the stream, with a hash that the next event can continue."""
        head = self.head(client_id)
        if head.version > 0 and not head.hash:
            raise HistoryForkedError(client_id, head.version)
        return head

    def _create(
        self, client_id: str, recorded: Sequence[RecordedEvent]
    ) -> StoreUnavailableError | WriteConflictError | None:
        """Store events; None if they are certainly stored, otherwise why it has to be looked at."""
        try:
            create_all(self._container, client_id, [event_document(event) for event in recorded])
        except (WriteConflictError, StoreUnavailableError) as error:
            return error
        return None

    def _stored(self, client_id: str, event_ids: Sequence[str]) -> dict[str, RecordedEvent]:
        marks = ", ".join(f"@id{number}" for number in range(len(event_ids)))
        documents = cosmos_query(
            self._container,
            f"SELECT {_FIELDS} FROM c WHERE c.client_id = @client_id AND c.event_id IN ({marks})",  # noqa: S608 - marks
            client_id,
            page=len(event_ids),
            client_id=client_id,
            **{f"id{number}": event_id for number, event_id in enumerate(event_ids)},
        )
        stored: dict[str, RecordedEvent] = {}
        for document in documents:
            event = event_in(document)
            if event is None:  # which no event with that id can be stored beside
                raise EventIdReusedError(client_id, document["event_id"], stands_at(document))
            stored[event.event_id] = event
        return stored


def _appended(events: Sequence[EventData], stored: Mapping[str, RecordedEvent], tried: set[str]) -> Appended:
    found = tuple(stored[event.event_id] for event in events)
    return Appended(found, frozenset(event.event_id for event in found if event.hash not in tried))
