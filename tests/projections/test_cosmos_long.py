"""A client with a long history on Cosmos DB: read and folded in pieces, and taken up again where a kill left it."""

from collections.abc import Iterator
from math import ceil

import pytest

from eventstore import ANY, EVENTS_CONTAINER, CosmosEventStore, StoreUnavailableError
from projections import PROJECTIONS_CONTAINER, CosmosProjectionStore, Projector, RecordReader, Target
from tests.support.clients import Graded, clients, fact
from tests.support.cosmos import Containers
from tests.support.interposing import Interposed
from tests.support.projecting import parked_of
from tests.wire.cosmos import CosmosServer

pytestmark = pytest.mark.cosmos_wire

EVENTS, PAGE, PORTION = 5000, 500, 90


class Long:
    """One client with 5,000 events, each of which says its version."""

    def __init__(self, server: CosmosServer, containers: Containers) -> None:
        self.server = server
        self.events = CosmosEventStore(containers.open(EVENTS_CONTAINER))
        self.store = CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), clients)
        self.reader = RecordReader(clients, self.events, self.store, self.store)
        for first in range(1, EVENTS, 100):
            facts = [fact(Graded(segment=str(version))) for version in range(first, first + 100)]
            self.events.append("1", facts, expected_version=ANY)

    def requests(self) -> list[str]:
        """From now on, what was asked of which container, in this order."""
        asked: list[str] = []
        self.server.listen(lambda request: asked.append(f"{request.kind} {request.container}"))
        return asked


@pytest.fixture
def long() -> Iterator[Long]:
    with CosmosServer() as server, Containers(server) as containers:
        yield Long(server, containers)


def test_an_earlier_state_is_folded_page_by_page(long: Long) -> None:
    """As many pages as the history up to there has, and no more is held than one of them."""
    with long.server.meter.measure() as used:
        view = long.reader.as_of_version("1", 4321)
    assert (view.record.version, view.record.values) == (4321, {"root": {"segment": "4321"}})
    assert used.data_requests == {"query": ceil(4321 / PAGE)}


def test_a_long_fold_is_committed_on_the_way_and_taken_up_after_a_kill(long: Long) -> None:
    """What is read is committed before more is read; after the kill only what is left is folded."""
    died_after = 20
    commits = iter(range(1000))

    def die() -> None:
        if next(commits) == died_after:
            raise StoreUnavailableError("killed")

    asked = long.requests()
    dying = Projector(clients, long.events, Interposed(long.store, before_commit=die))
    with pytest.raises(StoreUnavailableError):
        dying.catch_up("1", Target(0, refold=True))
    record = long.store.load(["1"])["1"].record
    assert record is not None
    assert (record.version, parked_of(record).waiting_for) == (died_after * PORTION, EVENTS)
    assert most_in_a_row("query events", asked) <= 2

    asked.clear()
    record = Projector(clients, long.events, long.store).catch_up("1", Target(0))
    assert (record.version, record.parked) == (EVENTS, None)
    assert asked.count("batch projections") == ceil((EVENTS - died_after * PORTION) / PORTION)
    assert asked.count("query events") <= ceil((EVENTS - died_after * PORTION + 1) / PAGE)
    assert most_in_a_row("query events", asked) <= 2


def most_in_a_row(wanted: str, asked: list[str]) -> int:
    """The longest run of one request."""
    longest = run = 0
    for each in asked:
        run = run + 1 if each == wanted else 0
        longest = max(longest, run)
    return longest
