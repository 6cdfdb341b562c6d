"""The contracts of the event store's ports on Cosmos DB, through the SDK and over a real socket."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
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
from tests.support.cosmos import VARIABLE, Containers, SplittingServer
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


SAMPLE = (
    "tests/contracts/test_cosmos.py::TestCosmosChangeFeed::test_a_cursor_at_the_end_finds_what_comes_later",
    "tests/contracts/test_cosmos.py::TestCosmosCheckpointStore",
    "tests/contracts/test_cosmos_projections.py::TestCosmosOutbox",
    "tests/contracts/test_cosmos_deliveries.py::TestCosmosDeliveryStore::test_one_of_many_claims_wins",
    "tests/e2e/test_on_cosmos.py",
)


def test_the_suites_run_on_the_account_that_the_environment_names() -> None:
    """A server in another process gets the requests, and is left as it was."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.wire.cosmos"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        account = {VARIABLE: server.stdout.readline().strip()}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *SAMPLE]
        done = subprocess.run(
            command, cwd=root, env=os.environ | account, capture_output=True, text=True, timeout=120, check=False
        )
        told, _ = server.communicate(timeout=30)
    assert done.returncode == 0, done.stdout
    assert "4 skipped" in done.stdout.splitlines()[-1], "only what counts requests is left out"
    left = orjson.loads(told)
    assert left["databases"] == []
    assert {"create", "batch", "upsert", "delete", "query", "feed"} <= left["requests"].keys()
