"""Documents in the events container that are no events, as somebody may have written them by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.cosmos import ContainerProxy

from eventstore import (
    ANY,
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    EventIdReusedError,
    ForeignDocument,
    HistoryForkedError,
    Sealed,
    check_sealed,
)
from tests.support.cosmos import Containers
from tests.support.events import emails
from tests.wire.cosmos import CosmosServer

pytestmark = pytest.mark.cosmos_wire


@pytest.fixture
def containers() -> Iterator[Containers]:
    with CosmosServer() as server, Containers(server) as containers:
        yield containers


@pytest.fixture
def container(containers: Containers) -> ContainerProxy:
    return containers.open(EVENTS_CONTAINER)


@pytest.fixture
def store(container: ContainerProxy) -> CosmosEventStore:
    """Client 1 has three events."""
    store = CosmosEventStore(container, sleep=lambda _: None)
    store.append("1", emails(1, 2, 3), expected_version=ANY)
    return store


@pytest.fixture
def feed(containers: Containers, container: ContainerProxy) -> CosmosChangeFeed:
    return CosmosChangeFeed(container, CosmosCheckpointStore(containers.open(INTAKE_CONTAINER)))


def event_like(**changed: Any) -> dict[str, Any]:
    """A document that has all that an event has."""
    texts = ("event_type", "source", "occurred_at", "recorded_at", "hash")
    fields: dict[str, Any] = dict.fromkeys(texts, "x") | {"correlation_id": None, "traceparent": None, "data": {}}
    return {**fields, "client_id": "1", "id": "x", "version": 4, "schema_version": 1, "event_id": "x:1", **changed}


@pytest.mark.parametrize(
    "document",
    [
        {"id": "x", "client_id": "1", "event_id": "x:1"},
        {"id": "x", "client_id": "1", "event_id": "x:1", "version": 2},
        {"id": "x", "client_id": "1", "event_id": "x:1", "version": 99},
        {"id": "x", "client_id": "1", "event_id": "x:1", "version": "zzz"},
        event_like(),
        event_like(id="4"),
        event_like(version=4.5),
    ],
)
def test_what_stands_at_no_events_place_is_passed_over(
    store: CosmosEventStore, feed: CosmosChangeFeed, container: ContainerProxy, document: dict[str, Any]
) -> None:
    """Nobody takes it for an event: the stream goes on as if it were not there. It is told of."""
    container.create_item(document)
    assert store.append("1", emails(4), expected_version=3).version == 4
    fresh = CosmosEventStore(container)
    assert [event.version for event in fresh.read("1")] == [1, 2, 3, 4]
    assert fresh.head("1").version == 4
    assert fresh.append("1", emails(5), expected_version=ANY).version == 5
    assert fresh.foreign("1") == [document["id"]]
    (partition,) = feed.partitions()
    page = feed.feed(partition, after=None, limit=100)
    assert sorted(event.version for event in page.events) == [1, 2, 3, 4, 5]
    assert page.foreign == [ForeignDocument("1", document["id"])]


def test_a_feed_of_nothing_but_foreign_documents_goes_on(
    store: CosmosEventStore, feed: CosmosChangeFeed, container: ContainerProxy
) -> None:
    """However many there are, they do not look like the end; at the end the cursor stands behind them."""
    for number in range(7):
        container.create_item({"id": f"x{number}", "client_id": "2", "event_id": f"x:{number}"})
    store.append("1", emails(4), expected_version=ANY)
    (partition,) = feed.partitions()
    first = feed.feed(partition, after=None, limit=2)
    second = feed.feed(partition, after=first.cursor, limit=2)
    assert sorted(event.version for event in (*first.events, *second.events)) == [1, 2, 3, 4]
    assert len(second.foreign) == 7
    container.create_item({"id": "x7", "client_id": "2", "event_id": "x:7"})
    last = feed.feed(partition, after=second.cursor, limit=2)
    assert (last.events, last.foreign) == ((), [ForeignDocument("2", "x7")])
    assert feed.feed(partition, after=last.cursor, limit=2).foreign == []


@pytest.mark.parametrize("client_id", [None, 7, "a b"])
def test_what_names_no_client_is_passed_over_too(
    store: CosmosEventStore, feed: CosmosChangeFeed, container: ContainerProxy, client_id: object
) -> None:
    """Neither feed nor directory give a client that cannot be one."""
    document = event_like(id="000000000001", version=1, client_id=client_id)
    container.create_item(document)
    (partition,) = feed.partitions()
    page = feed.feed(partition, after=None, limit=100)
    assert (len(page.events), page.foreign) == (3, [ForeignDocument(None, "000000000001")])
    assert feed.clients(partition, after=None, limit=100).client_ids == ["1"]


def test_the_directory_lists_a_client_once(
    store: CosmosEventStore, feed: CosmosChangeFeed, container: ContainerProxy
) -> None:
    """Who has a foreign document of version 1 as well, or nothing else, is no other client."""
    for client_id in ("1", "2"):
        container.create_item({"id": "x", "client_id": client_id, "version": 1, "event_id": "x:1"})
    (partition,) = feed.partitions()
    assert feed.clients(partition, after=None, limit=100).client_ids == ["1"]
    assert feed.count_clients(partition) == 1


def test_an_event_id_that_a_foreign_document_holds_is_taken(store: CosmosEventStore, container: ContainerProxy) -> None:
    """The caller is told at once, instead of being asked to try again for ever."""
    (event,) = emails(4)
    container.create_item({"id": "x", "client_id": "1", "event_id": event.event_id})
    with pytest.raises(EventIdReusedError):
        store.append("1", [event], expected_version=ANY)


def test_a_damaged_event_is_no_gap(store: CosmosEventStore, feed: CosmosChangeFeed, container: ContainerProxy) -> None:
    """What stands at an event's place is not passed over: a reader stops there, and the seal tells."""
    sealed = Sealed("1", 3, store.head("1").hash)
    damaged = container.read_item("000000000002", "1")
    del damaged["data"]
    container.replace_item("000000000002", damaged)
    read = store.read("1")
    assert next(read).version == 1
    with pytest.raises(HistoryForkedError) as caught:
        next(read)
    assert caught.value.version == 2
    assert [(each.version, each.problem) for each in check_sealed(store, sealed)] == [(2, "changed")]
    (partition,) = feed.partitions()
    page = feed.feed(partition, after=None, limit=100)
    assert page.foreign == [ForeignDocument("1", "000000000002")]


def test_nothing_follows_a_damaged_event(store: CosmosEventStore, container: ContainerProxy) -> None:
    """An append that does not know its hash is refused, since the chain would break unnoticed."""
    damaged = container.read_item("000000000003", "1")
    del damaged["hash"]
    container.replace_item("000000000003", damaged)
    with pytest.raises(HistoryForkedError):
        CosmosEventStore(container).append("1", emails(4), expected_version=ANY)
