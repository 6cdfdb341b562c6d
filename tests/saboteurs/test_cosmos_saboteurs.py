"""What makes Cosmos DB safe to use is needed: with any one safeguard removed, the contract or check named here fails."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import pytest

from eventstore import (
    ANY,
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    EventStoreError,
)
from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore
from projections import (
    ABSENT,
    PROJECTIONS_CONTAINER,
    AuditFilter,
    CosmosProjectionStore,
    FeedFollower,
    ProjectionError,
    Projector,
)
from projections.follower import targets_of
from tests.contracts.test_change_feed import CLIENTS
from tests.contracts.test_delivery_store import NOON, DeliveryStoreContract
from tests.contracts.test_event_store import EventStoreContract, SettableClock
from tests.contracts.test_projection_store import ProjectionStoreContract
from tests.saboteurs.sabotage_cosmos import (
    AnnouncedLeft,
    NoMark,
    NoReadBack,
    OnePage,
    PresentRanges,
    Trusting,
    unconditional,
)
from tests.support.clients import Contacted, clients, fact
from tests.support.cosmos import Containers, SplittingServer
from tests.support.events import emails
from tests.support.projecting import oracle
from tests.wire.cosmos import CosmosServer, faults

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]

NOTICED = (AssertionError, EventStoreError, ProjectionError, ValueError)  # the last is how the SDK refuses a cursor


class Place(NamedTuple):
    """A server of which every container splits early and often, or one that stays as it is, and its containers."""

    server: CosmosServer
    containers: Containers


def events(place: Place, kind: type[CosmosEventStore] = CosmosEventStore, **described: Any) -> CosmosEventStore:
    """An event store."""
    container = place.containers.open({**EVENTS_CONTAINER, **described})
    return kind(container, clock=SettableClock(), sleep=lambda _: None)


def projections(place: Place, kind: type[CosmosProjectionStore] = CosmosProjectionStore) -> Callable[..., Any]:
    """Opens projection stores."""
    return lambda projection: kind(place.containers.open(PROJECTIONS_CONTAINER), projection)


def deliveries(place: Place, kind: type[CosmosDeliveryStore] = CosmosDeliveryStore) -> CosmosDeliveryStore:
    """A delivery store."""
    return kind(place.containers.open(DELIVERIES_CONTAINER), sleep=lambda _: None)


def feed(place: Place, kind: type[CosmosChangeFeed] = CosmosChangeFeed) -> CosmosChangeFeed:
    """A feed."""
    checkpoints = CosmosCheckpointStore(place.containers.open(INTAKE_CONTAINER))
    return kind(place.containers.open(EVENTS_CONTAINER), checkpoints)


def an_event_is_stored_once(store: CosmosEventStore) -> None:
    """Contract: a repeat whose head is known goes straight to the service, which knows the event."""
    EventStoreContract().test_a_repeat_may_claim_another_time(store)


def a_lost_answer_is_settled(place: Place, store: CosmosEventStore) -> None:
    """What was stored without an answer is found, and is no duplicate."""
    place.server.inject(faults.dropped(stored=True), kind="create")
    assert store.append("c1", emails(1), expected_version=ANY).duplicates == frozenset()
    assert [event.event_id for event in store.read("c1")] == ["crm:1"]


def an_own_write_is_known_again(place: Place, store: CosmosDeliveryStore) -> None:
    """A claim that was stored without an answer is the claimant's."""
    store.raise_wanted("c1", {"crm": 1}, at=NOON)
    found = store.load("c1", "crm")
    assert found is not None
    place.server.inject(faults.dropped(stored=True), kind="batch")
    assert store.save(found.state._replace(claimed_until=NOON), found.tag) is not None


def a_split_hides_nothing(place: Place, found: CosmosChangeFeed) -> None:
    """A cursor from before a split finds what came with it, however quiet all other ranges are."""
    store = events(place)
    names = found.partitions()
    for number in range(30):
        store.append(CLIENTS[number % len(CLIENTS)], emails(number), expected_version=ANY)
    (name,) = names
    page = found.feed(name, after=None, limit=1000)
    while page.events:
        page = found.feed(name, after=page.cursor, limit=1000)
    store.append("c2", emails(900), expected_version=ANY)  # the 31st write: a split
    assert [event.event_id for event in found.feed(name, after=page.cursor, limit=10).events] == ["crm:900"]


def a_split_reads_nothing_again(place: Place, found: CosmosChangeFeed) -> None:
    """A sweep after a split passes what is new, and only that."""
    store, checkpoints = events(place), CosmosCheckpointStore(place.containers.open(INTAKE_CONTAINER))
    follower = FeedFollower(Projector(clients, store, projections(place)(clients)), found, checkpoints)
    passed = []
    for number in range(5):
        store.append("c1", [fact(Contacted(email=f"{number}"), key=str(number))], expected_version=ANY)
        passed.append(follower.sweep().events)
    assert passed == [1] * 5


def shuffled_events_are_folded_in_order(place: Place, kind: type[Projector]) -> None:
    """The events of one append leave the feed in any order; record and audit are those of their versions."""
    store, records = events(place), projections(place)(clients)
    told = [fact(Contacted(email=str(number)), key=str(number)) for number in range(20)]
    stream = store.append("c1", told, expected_version=ANY).events
    found = feed(place)
    page = [event for name in found.partitions() for event in found.feed(name, after=None, limit=100).events]
    assert [event.version for event in page] != [event.version for event in stream]
    clock = count().__next__  # a second for each look at it: whoever goes round in circles is soon out of time
    kind(clients, store, records, clock=clock).catch_up("c1", targets_of(page)["c1"])
    record = records.load(["c1"])["c1"].record
    assert (record.version, record.event_hash) == (20, stream[-1].hash)
    assert record.values == oracle(stream)
    changes = [change for entry in records.entries("c1", AuditFilter()) for change in entry.changes]
    assert [change.old for change in changes] == [ABSENT, *(str(number) for number in range(19))]


def without_starts(place: Place) -> None:
    """The same with the SDK's first cursors as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventstore.cosmos_feed._with_starts", lambda cursor: cursor)
        a_split_hides_nothing(place, feed(place))


class Safeguard(NamedTuple):
    """A check, with the safeguard and without it."""

    check: Callable[[Place], object]
    removed: Callable[[Place], object]


P, D = ProjectionStoreContract(), DeliveryStoreContract()
SAFEGUARDS = {
    "unique key": Safeguard(
        lambda p: an_event_is_stored_once(events(p)),
        lambda p: an_event_is_stored_once(events(p, unique_keys=[])),
    ),
    "read-back of an append": Safeguard(
        lambda p: a_lost_answer_is_settled(p, events(p)),
        lambda p: a_lost_answer_is_settled(p, events(p, NoReadBack)),
    ),
    "etag of the record": Safeguard(
        lambda p: P.test_a_commit_on_a_changed_record_is_lost(projections(p)(clients)),
        lambda p: P.test_a_commit_on_a_changed_record_is_lost(unconditional(projections(p)(clients), "record")),
    ),
    "etag of what was announced": Safeguard(
        lambda p: P.test_that_nothing_is_to_be_announced_depends_on_it_as_well(projections(p)),
        lambda p: P.test_that_nothing_is_to_be_announced_depends_on_it_as_well(
            lambda projection: unconditional(projections(p)(projection), "announced")
        ),
    ),
    "announcement state written even if it stays": Safeguard(
        lambda p: P.test_that_nothing_is_to_be_announced_depends_on_it_as_well(projections(p)),
        lambda p: P.test_that_nothing_is_to_be_announced_depends_on_it_as_well(projections(p, AnnouncedLeft)),
    ),
    "etag of a claim": Safeguard(
        lambda p: D.test_one_of_many_claims_wins(deliveries(p)),
        lambda p: D.test_one_of_many_claims_wins(unconditional(deliveries(p), "state")),
    ),
    "read-back of a claim": Safeguard(
        lambda p: an_own_write_is_known_again(p, deliveries(p)),
        lambda p: an_own_write_is_known_again(p, deliveries(p, NoMark)),
    ),
    "order of the events of a page": Safeguard(
        lambda p: shuffled_events_are_folded_in_order(p, Projector),
        lambda p: shuffled_events_are_folded_in_order(p, Trusting),
    ),
    "the round after a split": Safeguard(
        lambda p: a_split_hides_nothing(p, feed(p)),
        lambda p: a_split_hides_nothing(p, feed(p, OnePage)),
    ),
    "start of what was split before it was read": Safeguard(
        lambda p: a_split_hides_nothing(p, feed(p)), without_starts
    ),
    "stored set of ranges": Safeguard(
        lambda p: a_split_reads_nothing_again(p, feed(p)),
        lambda p: a_split_reads_nothing_again(p, feed(p, PresentRanges)),
    ),
}


@pytest.fixture
def place() -> Iterator[Place]:
    with SplittingServer() as server, Containers(server) as containers:
        yield Place(server, containers)


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_the_check_passes_with_the_safeguard(name: str, place: Place) -> None:
    """It is not the check that is wrong."""
    SAFEGUARDS[name].check(place)


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_the_check_fails_without_the_safeguard(name: str, place: Place) -> None:
    """It is the safeguard that keeps what the check is about."""
    with pytest.raises(NOTICED):
        SAFEGUARDS[name].removed(place)
