"""From the outbox to the topic: in order, nothing lost, nothing left behind silently."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventstore import EventRegistry, SqliteDatabase
from integrations import (
    Announcement,
    IncompleteError,
    Integration,
    Publisher,
    SqliteDeliveryStore,
    SqliteTopic,
    TopicMessage,
    TopicUnavailableError,
    read_announcement,
)
from projections import Commit, OutboxEntry, Projection, Record, SqliteProjectionStore, open_projections
from tests.integrations.world import Client, Clock, TargetDouble, mail

PROJECTION = Projection("clients", Client, EventRegistry(), version=1)
INTEGRATIONS = [
    Integration(name="crm", cares_about=("contact",), mapping=mail, strategy=TargetDouble()),
    Integration(name="mailing", cares_about=("consent", "contact"), mapping=mail, strategy=TargetDouble()),
    Integration(name="billing", cares_about=("address",), mapping=mail, strategy=TargetDouble()),
]


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[SqliteProjectionStore]:
    database = open_projections(tmp_path)
    yield SqliteProjectionStore(database, PROJECTION, clock=clock)
    database.close()


@pytest.fixture
def topic(database: SqliteDatabase, clock: Clock) -> SqliteTopic:
    topic = SqliteTopic(database, clock=clock)
    topic.subscribe("all", ["contact", "consent", "address"])
    return topic


def commit(store: SqliteProjectionStore, client_id: str, seq: int, *changed: str) -> None:
    """What a projector does when a record changed."""
    loaded = store.load([client_id])[client_id]
    entry = OutboxEntry(
        client_id,
        "clients",
        1,
        seq,
        seq - 1,
        seq,
        "2026-01-31T12:00:00.000000Z",
        {name: {"x": seq} for name in changed},
        (),
    )
    record = Record(client_id, seq, "h", entry.recorded_at, {}, {})
    assert store.commit([Commit(loaded, record, outbox=entry)])[0] is not None


def announced(topic: SqliteTopic) -> list[Announcement]:
    return [read_announcement(each.message.body) for each in topic.receive("all", limit=100)]


class KilledError(BaseException):
    """Ends a call like the end of its process: no `except Exception` sees it."""


class Recorder:
    """Stands before the ports and writes down who is called; fails or dies when told."""

    def __init__(self, outbox: SqliteProjectionStore, deliveries: SqliteDeliveryStore, topic: SqliteTopic) -> None:
        self._outbox, self._deliveries, self._topic = outbox, deliveries, topic
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.killed: tuple[str, str] | None = None

    def pending(self, client_id: str) -> Sequence[OutboxEntry]:
        return self._outbox.pending(client_id)

    def waiting(self, *, older_than: str | None = None, limit: int = 1000) -> Sequence[str]:
        return self._outbox.waiting(older_than=older_than, limit=limit)

    def delete(self, entries: Iterable[OutboxEntry]) -> None:
        with self._noted("delete", next(iter(entries)).client_id):
            self._outbox.delete(entries)

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        with self._noted("raise_wanted", client_id):
            self._deliveries.raise_wanted(client_id, wanted, at=at)

    def send(self, messages: Sequence[TopicMessage]) -> None:
        with self._noted("send", messages[0].session_id):
            self._topic.send(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deliveries, name)

    @contextmanager
    def _noted(self, call: str, client_id: str) -> Iterator[None]:
        self.calls.append(call)
        if client_id in self.failing:
            raise self.failing[client_id]
        if self.killed == ("before", call):
            raise KilledError
        yield
        if self.killed == ("after", call):
            raise KilledError


@pytest.fixture
def recorder(outbox: SqliteProjectionStore, database: SqliteDatabase, topic: SqliteTopic) -> Recorder:
    return Recorder(outbox, SqliteDeliveryStore(database), topic)


@pytest.fixture
def publisher(recorder: Recorder, clock: Clock) -> Publisher:
    return Publisher(recorder, recorder, recorder, INTEGRATIONS, source="/client-flow/clients", clock=clock)


@pytest.fixture
def deliveries(database: SqliteDatabase) -> SqliteDeliveryStore:
    return SqliteDeliveryStore(database)


def test_wanted_is_raised_before_sending_and_the_outbox_emptied_last(
    publisher: Publisher, recorder: Recorder, outbox: SqliteProjectionStore
) -> None:
    """The order that loses nothing: wanted, send, delete; one call each, however many entries wait."""
    commit(outbox, "c1", 1, "contact")
    commit(outbox, "c1", 2, "contact")
    assert publisher.publish(["c1"]) == 2
    assert recorder.calls == ["raise_wanted", "send", "delete"]
    assert list(outbox.pending("c1")) == []


def test_messages_go_in_the_order_of_seq(
    publisher: Publisher, outbox: SqliteProjectionStore, topic: SqliteTopic
) -> None:
    """A client's announcements reach the topic one after the other, none left out."""
    for seq in (1, 2, 3):
        commit(outbox, "c1", seq, "contact")
    publisher.publish(["c1"])
    assert [each.seq for each in announced(topic)] == [1, 2, 3]


def test_each_integration_owes_what_it_cares_about(
    publisher: Publisher, outbox: SqliteProjectionStore, deliveries: SqliteDeliveryStore
) -> None:
    """Wanted is the last announcement that touched a sub-schema of interest."""
    commit(outbox, "c1", 1, "contact")
    commit(outbox, "c1", 2, "consent", "root")
    commit(outbox, "c1", 3, "root")
    publisher.publish(["c1"])
    assert {state.integration: state.wanted for state in deliveries.of_client("c1")} == {"crm": 1, "mailing": 2}


def test_nothing_pending_is_nothing_done(publisher: Publisher, recorder: Recorder) -> None:
    """A doorbell without entries touches neither topic nor deliveries."""
    assert publisher.publish(["c1", "c2"]) == 0
    assert publisher.publish([]) == 0
    assert recorder.calls == []


def test_clients_named_twice_are_published_once(
    publisher: Publisher, recorder: Recorder, outbox: SqliteProjectionStore
) -> None:
    """Doorbells for many events of one client are one."""
    commit(outbox, "c1", 1, "contact")
    assert publisher.publish(["c1", "c1", "c1"]) == 1
    assert recorder.calls.count("send") == 1


@pytest.mark.parametrize("call", ["raise_wanted", "send", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_publication_is_finished(
    recorder: Recorder,
    publisher: Publisher,
    outbox: SqliteProjectionStore,
    topic: SqliteTopic,
    deliveries: SqliteDeliveryStore,
    call: str,
    when: str,
) -> None:
    """Wherever a process ends, the next call finishes: every announcement arrives once and in order, wanted is noted."""
    commit(outbox, "c1", 1, "contact")
    commit(outbox, "c1", 2, "contact")
    recorder.killed = (when, call)
    with pytest.raises(KilledError):
        publisher.publish(["c1"])
    recorder.killed = None
    publisher.publish(outbox.waiting())
    assert [each.seq for each in announced(topic)] == [1, 2]
    assert [state.wanted for state in deliveries.of_client("c1")] == [2, 2]
    assert list(outbox.waiting()) == []


def test_trouble_with_one_client_does_not_stop_the_others(
    publisher: Publisher, recorder: Recorder, outbox: SqliteProjectionStore, topic: SqliteTopic
) -> None:
    """All others are published, then the failure is told with its client; its entry waits and is published later."""
    for number in range(20):
        commit(outbox, f"c{number}", 1, "contact")
    recorder.failing["c7"] = ValueError("as the test wants it")
    with pytest.raises(IncompleteError) as raised:
        publisher.publish([f"c{number}" for number in range(20)])
    assert raised.value.failures == {"c7": recorder.failing["c7"]}
    assert "c7" not in str(raised.value)
    assert len(announced(topic)) == 19
    assert list(outbox.waiting()) == ["c7"]
    recorder.failing.clear()
    assert publisher.publish(outbox.waiting()) == 1


def test_a_topic_that_is_down_stops_publishing(
    publisher: Publisher, recorder: Recorder, outbox: SqliteProjectionStore
) -> None:
    """If the topic itself is away, the call ends with that error, without trying every client; nothing is deleted."""
    clients = [f"c{number}" for number in range(40)]
    for client_id in clients:
        commit(outbox, client_id, 1, "contact")
    down = TopicUnavailableError("as the test wants it")
    recorder.failing = dict.fromkeys(clients, down)
    with pytest.raises(TopicUnavailableError):
        publisher.publish(clients)
    assert len(outbox.waiting()) == 40
    assert len(recorder.calls) <= 8  # those that had begun
    recorder.failing = {}
    assert publisher.publish(outbox.waiting()) == 40
