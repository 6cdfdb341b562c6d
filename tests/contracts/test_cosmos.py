"""The contracts of the event store's ports on Cosmos DB, through the SDK and over a real socket."""

from collections.abc import Callable

import pytest

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CheckpointStore,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    CosmosRejectionStore,
    EventStore,
    RejectionStore,
)
from tests.contracts.test_change_feed import ChangeFeedContract, FeedingStore
from tests.contracts.test_checkpoint_store import CheckpointStoreContract
from tests.contracts.test_event_store import EventStoreContract, SettableClock
from tests.contracts.test_rejection_store import RejectionStoreContract
from tests.support.cosmos import Containers, SplittingServer
from tests.support.events import emails

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]


class StoreAndFeed(CosmosEventStore, CosmosChangeFeed):
    """Both ports in one object."""

    def __init__(self, containers: Containers) -> None:
        events = containers.open(EVENTS_CONTAINER)
        CosmosEventStore.__init__(self, events)
        CosmosChangeFeed.__init__(self, events, CosmosCheckpointStore(containers.open(INTAKE_CONTAINER)))


class TestCosmosEventStore(EventStoreContract):
    @pytest.fixture
    def open_store(self, containers: Containers, clock: SettableClock) -> Callable[[], EventStore]:
        return lambda: CosmosEventStore(containers.open(EVENTS_CONTAINER), clock=clock)


class TestCosmosChangeFeed(ChangeFeedContract):
    @pytest.fixture
    def store(self, containers: Containers) -> FeedingStore:
        store = StoreAndFeed(containers)
        store.partitions()  # cursors are from now on those of the present ranges, whatever is split
        return store


class TestCosmosCheckpointStore(CheckpointStoreContract):
    @pytest.fixture
    def open_store(self, containers: Containers) -> Callable[[], CheckpointStore]:
        return lambda: CosmosCheckpointStore(containers.open(INTAKE_CONTAINER))


class TestCosmosRejectionStore(RejectionStoreContract):
    @pytest.fixture
    def store(self, containers: Containers) -> RejectionStore:
        return CosmosRejectionStore(containers.open(INTAKE_CONTAINER))


def test_the_splitting_server_splits_under_way() -> None:
    """After the first, third and seventh write: whoever writes more than once has crossed a split."""
    with SplittingServer() as server, Containers(server) as containers:
        events = containers.open(EVENTS_CONTAINER)
        store = CosmosEventStore(events)
        ranges = []
        for number in range(1, 11):
            store.append("c1", emails(number), expected_version=number - 1)
            ranges.append(len(list(events.read_feed_ranges(force_refresh=True))))
    assert ranges == [2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
