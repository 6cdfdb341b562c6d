"""The event store and its change feed on Cosmos DB.

A stream is one logical partition. An event's document id is its version and its event id is a unique key, so the
service itself lets nobody write a version or an event twice. Everything else follows from that: a write that was refused
or got no answer is settled by reading back which of its events are there.
"""

import json
import time
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from random import random
from typing import Any

from azure.cosmos import ContainerProxy

from .appending import check_append, check_expected_version, still_to_append
from .client_id import check_client_id
from .coalescing import Coalescer
from .cosmos_client import WriteConflictError, cosmos_errors, cosmos_query, create_all
from .errors import ContentionError, StoreUnavailableError
from .events import EMPTY_STREAM, EventData, RecordedEvent, StreamHead, record_events
from .ports import ANY, NO_STREAM, Appended, CheckpointStore, ClientPage, ExpectedVersion, FeedPage
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
_BACKOFF = 0.02  # seconds
_MAX_VERSION = 10**12 - 1
_FIRST_EVENTS = "FROM c WHERE c.version = 1"
_FIELDS = ", ".join(f"c.{name}" for name in RecordedEvent._fields)


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
        return map(_from_document, documents)

    def head(self, client_id: str) -> StreamHead:
        """See `EventStore.head`."""
        check_client_id(client_id)
        found = cosmos_query(
            self._container,
            "SELECT TOP 1 c.version, c.hash, c.recorded_at FROM c WHERE c.client_id = @client_id "
            "ORDER BY c.version DESC",
            client_id,
            page=1,
            client_id=client_id,
        )
        document = next(found, None)
        return EMPTY_STREAM if document is None else StreamHead(**document)

    def _append(self, client_id: str, events: Sequence[EventData], expected: ExpectedVersion) -> Appended:
        tried: set[str] = set()  # hashes this call may have stored: finding one is no repeat
        stored: dict[str, RecordedEvent] = {}
        fresh = list(events)
        head = EMPTY_STREAM if expected == NO_STREAM else self._heads.get(client_id, expected) or self.head(client_id)
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
            head = self.head(client_id)
            check_expected_version(client_id, expected, head)
            self._sleep(self._random() * _BACKOFF * 2**attempt)
        raise trouble if isinstance(trouble, StoreUnavailableError) else ContentionError(client_id, _ROUNDS)

    def _create(
        self, client_id: str, recorded: Sequence[RecordedEvent]
    ) -> StoreUnavailableError | WriteConflictError | None:
        """Store events; None if they are certainly stored, otherwise why it has to be looked at."""
        try:
            create_all(self._container, client_id, [_to_document(event) for event in recorded])
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
        return {event.event_id: event for event in map(_from_document, documents)}


class CosmosChangeFeed:
    """`ChangeFeed` and `ClientDirectory` of the events container, in pull mode: one partition for each range the container had at first.

    The set of ranges is stored when the feed is first read and stays. The service may split a range later; the cursor of
    the old range goes on and covers its parts.

    Args:
        container: the events container.
        checkpoints: where the set of ranges is kept.
    """

    def __init__(self, container: ContainerProxy, checkpoints: CheckpointStore) -> None:
        self._container = container
        self._checkpoints = checkpoints

    def partitions(self) -> Sequence[str]:
        """See `ChangeFeed.partitions`."""
        stored = self._checkpoints.load("feed-ranges")
        if stored is None:
            with cosmos_errors():
                ranges = [_packed(found) for found in self._container.read_feed_ranges()]
            stored = self._checkpoints.create("feed-ranges", json.dumps(ranges))
        names: list[str] = json.loads(stored)
        return names

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        """See `ChangeFeed.feed`: one page, so one request for a range that was not split."""
        documents, cursor = self._page(partition, after, limit)
        known = 1 if after is None else len(_parts(after))
        while not documents and len(_parts(cursor)) > known:
            # In the round that finds a split out, the SDK passes over the new parts.
            known = len(_parts(cursor))
            documents, cursor = self._page(partition, cursor, limit)
        return FeedPage([_from_document(document) for document in documents], cursor)

    def _page(self, partition: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str]:
        headers: list[Mapping[str, str]] = []
        where: dict[str, Any] = (
            {"feed_range": _unpacked(partition), "start_time": "Beginning"}
            if after is None
            else {"continuation": after}
        )
        with cosmos_errors():
            pages = self._container.query_items_change_feed(
                max_item_count=limit, response_hook=lambda found, _: headers.append(found), **where
            ).by_page()
            documents = [document for page in islice(pages, 1) for document in page]
        # The page's own token may be another caller's; the hook's headers hold the right one once the page is read.
        cursor = headers[-1]["etag"]
        return documents, _with_starts(cursor) if after is None else cursor

    def clients(self, partition: str, *, after: str | None, limit: int) -> ClientPage:
        """See `ClientDirectory.clients`: the first events of a range, by the index; one request for a page."""
        with cosmos_errors():
            pages: Any = self._container.query_items(
                f"SELECT c.client_id {_FIRST_EVENTS}", feed_range=_unpacked(partition), max_item_count=limit
            ).by_page(after)
            documents = [document for page in islice(pages, 1) for document in page]
        return ClientPage([str(document["client_id"]) for document in documents], pages.continuation_token)

    def known(self, client_ids: Sequence[str]) -> Collection[str]:
        """See `ClientDirectory.known`: one query by the index, a request for each range they are in."""
        if not client_ids:
            return set()
        these = {f"client{number}": client_id for number, client_id in enumerate(client_ids)}
        marks = ", ".join(f"@{name}" for name in these)
        text = f"SELECT c.client_id {_FIRST_EVENTS} AND c.client_id IN ({marks})"
        found = cosmos_query(self._container, text, None, page=len(these), **these)
        return {str(document["client_id"]) for document in found}

    def count_clients(self, partition: str) -> int:
        """See `ClientDirectory.count_clients`."""
        with cosmos_errors():
            counts: Any = self._container.query_items(
                f"SELECT VALUE COUNT(1) {_FIRST_EVENTS}", feed_range=_unpacked(partition)
            )
            return int(sum(counts))


def _appended(events: Sequence[EventData], stored: Mapping[str, RecordedEvent], tried: set[str]) -> Appended:
    found = tuple(stored[event.event_id] for event in events)
    return Appended(found, frozenset(event.event_id for event in found if event.hash not in tried))


def _to_document(event: RecordedEvent) -> dict[str, Any]:
    return {"id": f"{event.version:012}", **event._asdict()}


def _from_document(document: Mapping[str, Any]) -> RecordedEvent:
    return RecordedEvent._make(document[name] for name in RecordedEvent._fields)


def _parts(cursor: str) -> list[dict[str, Any]]:
    """The ranges that a cursor of the SDK covers, each with its token."""
    parts: list[dict[str, Any]] = json.loads(b64decode(cursor))["continuation"]["continuation"]
    return parts


def _with_starts(cursor: str) -> str:
    """A first cursor that can be gone on from.

    If the range was split before it was ever read, the SDK writes no token for the parts that it has not come to yet, and
    refuses to go on from that. Position 0 is before everything in them.
    """
    state = json.loads(b64decode(cursor))
    for part in state["continuation"]["continuation"]:
        part["token"] = part["token"] or '"0"'
    return b64encode(json.dumps(state).encode()).decode()


def _packed(feed_range: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(feed_range, sort_keys=True).encode()).decode()


def _unpacked(partition: str) -> dict[str, Any]:
    feed_range: dict[str, Any] = json.loads(urlsafe_b64decode(partition))
    return feed_range
