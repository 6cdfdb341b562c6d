"""A place to project the sample clients, and an oracle that works records out in another way."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from eventstore import (
    ANY,
    CheckpointStore,
    Event,
    EventData,
    EventStore,
    RecordedEvent,
    SqliteCheckpointStore,
    SqliteEventStore,
    open_events,
    utc_text,
)
from functions_app.backend import Feed, Projections
from projections import (
    ABSENT,
    ROOT,
    WHOLE,
    AuditEntry,
    AuditFilter,
    FeedFollower,
    OutboxEntry,
    Parked,
    Predecessors,
    Projection,
    Projector,
    Record,
    RecordReader,
    SqlitePredecessors,
    SqliteProjectionStore,
    Target,
    open_projections,
)
from tests.support.clients import NOON, clients, fact

RECORDED_AT = NOON + timedelta(days=1)


def recorded(client_id: str, *facts: Event | EventData, first: int = 1) -> list[RecordedEvent]:
    """The facts as events with versions from `first` on, for folds without a store; the hashes are made up."""
    data = [each if isinstance(each, EventData) else fact(each) for each in facts]
    return [
        RecordedEvent(
            client_id=client_id,
            version=version,
            event_id=each.event_id,
            event_type=each.event_type,
            schema_version=each.schema_version,
            source=each.source,
            occurred_at=utc_text(each.occurred_at),
            recorded_at=utc_text(RECORDED_AT),
            correlation_id=each.correlation_id,
            traceparent=each.traceparent,
            data=each.data,
            hash=f"hash of {version}",
        )
        for version, each in enumerate(data, first)
    ]


class AnyWorld:
    """Stores of one projection, and what can be done with them; each instance is what another process would see.

    Args:
        projection: what is projected.
        events: the truth.
        feed: the same in the order in which it came, and all clients.
        store: records, audit and outbox.
        predecessors: what earlier generations left.
        checkpoints: cursors and progress.
    """

    def __init__(
        self,
        projection: Projection[Any],
        events: EventStore,
        feed: Feed,
        store: Projections,
        predecessors: Predecessors,
        checkpoints: CheckpointStore,
    ) -> None:
        self.projection = projection
        self.events, self.feed = events, feed
        self.store, self.predecessors, self.checkpoints = store, predecessors, checkpoints
        self.reader = RecordReader(projection, events, store, store)

    def close(self) -> None:
        """Let go of what is open."""

    def tell(self, client_id: str, *facts: Event | EventData) -> list[RecordedEvent]:
        """Append facts to a client's stream."""
        data = [each if isinstance(each, EventData) else fact(each) for each in facts]
        return list(self.events.append(client_id, data, expected_version=ANY).events)

    def projector(self, **options: Any) -> Projector:
        """A projector as a process of its own would have it."""
        return Projector(self.projection, self.events, self.store, **options)

    def follower(self, projector: Projector | None = None, **options: Any) -> FeedFollower:
        """A sweep."""
        return FeedFollower(projector or self.projector(), self.feed, self.checkpoints, **options)

    def catch_up(self, client_id: str, **target: Any) -> Record:
        """Bring a client to the end of its stream."""
        return self.projector().catch_up(client_id, Target(self.events.head(client_id).version, **target))

    def record(self, client_id: str) -> Record:
        """The record as stored; there has to be one."""
        record = self.store.load([client_id])[client_id].record
        assert record is not None, "there is no record"
        return record

    def stream(self, client_id: str) -> list[RecordedEvent]:
        """All events of a client."""
        return list(self.events.read(client_id))

    def trail(self, client_id: str) -> Sequence[AuditEntry]:
        """All audit entries of a client."""
        return self.store.entries(client_id, AuditFilter(), limit=100_000)

    def outbox(self, client_id: str) -> Sequence[OutboxEntry]:
        """What still has to be published of a client."""
        return self.store.pending(client_id)


class World(AnyWorld):
    """Stores of one projection in a directory.

    Args:
        directory: where the files are; None keeps everything in memory.
        projection: what is projected.
        clock: recording and outbox times.
        beside: another world in this process whose files it shares.
    """

    events: SqliteEventStore
    store: SqliteProjectionStore

    def __init__(
        self,
        directory: Path | None,
        projection: Projection[Any] = clients,
        *,
        clock: Callable[[], datetime] = lambda: RECORDED_AT,
        beside: "World | None" = None,
    ) -> None:
        self.directory = directory
        if beside is None:
            self._events, self._projections = open_events(directory), open_projections(directory)
        else:
            self._events, self._projections = beside._events, beside._projections
        events = SqliteEventStore(self._events, clock=clock)
        super().__init__(
            projection,
            events,
            events,
            SqliteProjectionStore(self._projections, projection, clock=clock),
            SqlitePredecessors(self._projections, projection),
            SqliteCheckpointStore(self._projections),
        )

    def close(self) -> None:
        """Close the files."""
        self._events.close()
        self._projections.close()


def parked_of(record: Record) -> Parked:
    """Why the record is parked; it has to be."""
    assert record.parked is not None, "the client is not parked"
    return record.parked


def check_whole(world: World, client_id: str = "1") -> None:
    """Record and audit hold every event of the stream, once."""
    stream = world.stream(client_id)
    record = world.record(client_id)
    assert (record.version, record.parked) == (len(stream), None)
    assert record.values == oracle(stream)
    assert [entry.version for entry in world.trail(client_id)] == list(range(1, len(stream) + 1))


def oracle(stream: Iterable[RecordedEvent]) -> dict[str, dict[str, Any]]:
    """The values that a history comes to, worked out without folding: per field the newest assertion is picked.

    Knows neither failures, annulments nor `late="apply"`.
    """
    said: dict[tuple[str, str], list[tuple[str, int, Any]]] = {}
    for event in stream:
        for place, value in _asserted(event).items():
            said.setdefault(place, []).append((event.occurred_at, event.version, value))
    values: dict[str, dict[str, Any]] = {}
    for (name, field), assertions in said.items():
        value = max(assertions, key=lambda assertion: assertion[:2])[2]
        if value is not ABSENT:
            values.setdefault(name, {})[field] = value
    return values


def _asserted(event: RecordedEvent) -> dict[tuple[str, str], Any]:
    data = event.data
    no_contact = {("contact", "email"): ABSENT, ("contact", "phone"): ABSENT}
    told = {("contact", field): value for field, value in data.items() if value is not None}
    by_type: dict[str, Callable[[], dict[tuple[str, str], Any]]] = {
        "client.contacted": lambda: told,
        "client.contact_replaced": lambda: no_contact | told,
        "client.contact_removed": lambda: no_contact,
        "client.moved": lambda: {("address", WHOLE): data},
        "client.address_removed": lambda: {("address", WHOLE): ABSENT},
        "client.tagged": lambda: {("profile", "tags"): data["tags"]},
        "client.graded": lambda: {(ROOT, "segment"): data["segment"]},
        "client.scored": lambda: {(ROOT, "score"): data["score"]},
        "client.visited": dict,
    }
    return by_type[event.event_type]()
