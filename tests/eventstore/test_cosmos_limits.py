"""What Cosmos DB does not take is said clearly, and nothing of it is written."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient, DatabaseProxy, PartitionKey

from eventstore import (
    ANY,
    EVENTS_CONTAINER,
    AppendTooLargeError,
    CosmosEventStore,
    EventData,
    StoreRefusedError,
    WrongContainerError,
    cosmos_container,
)
from tests.support.cosmos import Containers
from tests.support.events import email, emails
from tests.wire.cosmos import CosmosServer, faults

pytestmark = pytest.mark.cosmos_wire


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def store(server: CosmosServer) -> Iterator[CosmosEventStore]:
    with Containers(server) as containers:
        yield CosmosEventStore(containers.open(EVENTS_CONTAINER), sleep=lambda _: None)


@pytest.fixture
def database(server: CosmosServer) -> Iterator[DatabaseProxy]:
    with CosmosClient(server.url, server.key, transport=RequestsTransport(use_env_settings=False)) as client:
        yield client.create_database_if_not_exists("flow")


def large(keys: range, size: int) -> list[EventData]:
    """Events with so many letters that take two bytes each."""
    return [email(key, address="ñ" * size) for key in keys]


@pytest.mark.parametrize(("events", "size"), [(1, 499_000), (100, 4_900)])
def test_the_largest_append_fits(server: CosmosServer, store: CosmosEventStore, events: int, size: int) -> None:
    """A megabyte of letters that JSON could also write with six bytes each goes into one request."""
    with server.meter.measure() as used:
        assert store.append("c1", large(range(events), size), expected_version=0).version == events
    assert used.data_requests.total() == 1
    assert sum(len(event.data["email"]) for event in store.read("c1")) == events * size


@pytest.mark.parametrize("events", [large(range(3), 200_000), emails(*range(101))])
def test_what_fits_no_batch_is_refused_before_anything_is_sent(
    server: CosmosServer, store: CosmosEventStore, events: list[EventData]
) -> None:
    """More than a megabyte, or more than a hundred events."""
    with server.meter.measure() as used, pytest.raises(AppendTooLargeError, match="append in parts"):
        store.append("c1", events, expected_version=ANY)
    assert used.data_requests.total() == 0


@pytest.mark.parametrize("events", [1, 3])
def test_a_full_partition_takes_all_of_an_append_or_nothing(
    server: CosmosServer, store: CosmosEventStore, events: int
) -> None:
    """The client's stream stays as it was; other clients can be appended to; with room again it goes on."""
    store.append("c1", emails(0), expected_version=ANY)
    server.settings.partition_limit = 1500  # less than three events
    with pytest.raises(StoreRefusedError, match="partition of this client is full") as refused:
        store.append("c1", large(range(1, events + 1), 450 // events), expected_version=ANY)
    assert (refused.value.status, refused.value.sub_status, refused.value.of_data) == (403, 1014, True)
    assert [event.version for event in store.read("c1")] == [1]
    assert store.append("c2", emails(1), expected_version=ANY).version == 1
    server.settings.partition_limit *= 100
    assert store.append("c1", emails(1), expected_version=ANY).version == 2


@pytest.mark.parametrize("events", [1, 3])
def test_a_missing_permission_is_named(server: CosmosServer, store: CosmosEventStore, events: int) -> None:
    """It is nothing that the client could be blamed for, and says which role to give."""
    server.inject(faults.forbidden(), kind="create" if events == 1 else "batch")
    with pytest.raises(StoreRefusedError, match="data contributor role") as refused:
        store.append("c1", emails(*range(events)), expected_version=0)
    assert not refused.value.of_data
    assert list(store.read("c1")) == []


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"partition_key": PartitionKey("/id")}, "partition key: ['/id'] is there, ['/client_id'] was expected"),
        ({"unique_key_policy": None}, "unique keys: [] is there, [['/event_id']] was expected"),
        (
            {"unique_key_policy": {"uniqueKeys": [{"paths": ["/event_id", "/version"]}]}},
            "unique keys: [['/event_id', '/version']] is there, [['/event_id']] was expected",
        ),
    ],
)
def test_a_container_with_other_keys_is_not_opened(
    server: CosmosServer, database: DatabaseProxy, made: dict[str, Any], problem: str
) -> None:
    """With it an event could be stored twice or where nobody looks; so it is found before the first append."""
    right = {
        "partition_key": PartitionKey("/client_id"),
        "unique_key_policy": {"uniqueKeys": [{"paths": ["/event_id"]}]},
    }
    database.create_container("events", **right | made)
    with pytest.raises(WrongContainerError, match="provision") as wrong:
        cosmos_container(database, EVENTS_CONTAINER)
    assert (wrong.value.container, wrong.value.problems) == ("events", (problem,))
    assert server.documents("flow", "events") == []


def test_a_missing_container_is_named(database: DatabaseProxy) -> None:
    """Opening says what to do about it."""
    with pytest.raises(StoreRefusedError, match="provision it"):
        cosmos_container(database, EVENTS_CONTAINER)
