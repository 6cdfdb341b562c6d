"""The contracts of the event store's ports on Cosmos DB, through the SDK and over a real socket."""

from collections.abc import Callable, Iterator

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
from tests.contracts.test_client_directory import ClientDirectoryContract, ListingStore
from tests.contracts.test_event_store import EventStoreContract, SettableClock
from tests.contracts.test_rejection_store import RejectionStoreContract
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]


@pytest.fixture(params=[1, 3])
def containers(request: pytest.FixtureRequest) -> Iterator[Containers]:
    with CosmosServer(ranges=request.param) as server, Containers(server) as containers:
        yield containers


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
        return StoreAndFeed(containers)


class TestCosmosClientDirectory(ClientDirectoryContract):
    @pytest.fixture
    def store(self, containers: Containers) -> ListingStore:
        return StoreAndFeed(containers)


class TestCosmosCheckpointStore(CheckpointStoreContract):
    @pytest.fixture
    def open_store(self, containers: Containers) -> Callable[[], CheckpointStore]:
        return lambda: CosmosCheckpointStore(containers.open(INTAKE_CONTAINER))


class TestCosmosRejectionStore(RejectionStoreContract):
    @pytest.fixture
    def store(self, containers: Containers) -> RejectionStore:
        return CosmosRejectionStore(containers.open(INTAKE_CONTAINER))
