"""What Cosmos DB refuses for good holds up the client it concerns, at the event it concerns, and nobody else."""

from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest

from eventstore import EVENTS_CONTAINER, CosmosEventStore, StoreRefusedError
from projections import (
    PROJECTIONS_CONTAINER,
    AuditFilter,
    CosmosProjectionStore,
    FeedFollower,
    Projector,
    Target,
    annul,
    retry_parked,
)
from tests.support.clients import Contacted, Graded, Tagged, clients, fact
from tests.support.cosmos import Containers
from tests.support.projecting import World, parked_of
from tests.wire.cosmos import CosmosServer, Fault, faults

pytestmark = pytest.mark.cosmos_wire

LARGE = 195_000  # letters of two bytes: close to the largest record there may be


class Limited:
    """The events of a world, projected onto Cosmos DB."""

    def __init__(self, world: World, server: CosmosServer, containers: Containers) -> None:
        self.world, self.server = world, server
        self.store = CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), clients)
        self.projector = Projector(clients, world.events, self.store)
        self.follower = FeedFollower(self.projector, world.events, world.checkpoints)

    def fill(self, client_id: str, *, spare: int) -> None:
        """Let the client's partition have so many bytes left."""
        stored = self.server.documents("flow", "projections")
        held = sum(len(orjson.dumps(document)) for document in stored if document["client_id"] == client_id)
        self.server.settings.partition_limit = held + spare

    def trail(self, client_id: str) -> list[int]:
        """Versions that have an audit entry."""
        return [entry.version for entry in self.store.entries(client_id, AuditFilter())]


@pytest.fixture
def limited(world: World) -> Iterator[Limited]:
    with CosmosServer() as server, Containers(server) as containers:
        yield Limited(world, server, containers)


def test_an_event_whose_commit_is_too_large_parks_its_client(limited: Limited) -> None:
    """The events before it are in, nothing of it is, and neither cursor nor other clients wait for it."""
    limited.world.tell("1", Tagged(tags=["ñ" * LARGE]), Tagged(tags=["é" * LARGE]), Graded(segment="b"))
    limited.world.tell("2", Graded(segment="a"))
    swept = limited.follower.sweep()
    assert (swept.errors, swept.done) == ((), True)
    (record,) = limited.store.parked()
    assert (record.client_id, record.version, record.values) == ("1", 1, {"profile": {"tags": ["ñ" * LARGE]}})
    assert parked_of(record)[:4] == (
        2,
        3,
        "commit_refused",
        ("(whole): the document or batch is larger than the service takes (413/0)",),
    )
    assert limited.trail("1") == [1]
    assert limited.trail("2") == [1]
    limited.world.tell("1", Graded(segment="c"))
    assert limited.follower.sweep().done
    assert parked_of(limited.store.parked()[0]).waiting_for == 4


def test_events_that_are_too_large_together_are_committed_apart(limited: Limited) -> None:
    """Each of them fits; nobody is parked."""
    limited.world.tell("1", *(Contacted(email="ñ" * 7_000 + str(number)) for number in range(10)))
    large = limited.server.inject(
        faults.too_large(), kind="batch", times=100, match=lambda request: len(request.body) > 200_000
    )
    assert limited.follower.sweep().done
    assert large.hits > 0
    assert limited.store.parked() == []
    assert limited.trail("1") == list(range(1, 11))


def test_a_refused_event_is_found_among_others(limited: Limited) -> None:
    """Whatever of a commit the service takes for invalid, the client parks at that event and not before."""
    limited.world.tell("1", *(Graded(segment="poison" if place == 37 else str(place)) for place in range(1, 91)))
    limited.server.inject(Fault(400), kind="batch", times=100, match=lambda request: b"poison" in request.body)
    assert limited.follower.sweep().done
    assert parked_of(limited.store.parked()[0])[:3] == (37, 90, "commit_refused")
    assert limited.trail("1") == list(range(1, 37))


def test_an_event_that_cannot_be_committed_can_be_annulled(limited: Limited) -> None:
    """It is passed over at its place, as one that no rule digests."""
    limited.world.tell("1", Tagged(tags=["ñ" * LARGE]), Tagged(tags=["é" * LARGE]), Graded(segment="b"))
    limited.follower.sweep()
    when = datetime(2026, 2, 1, tzinfo=UTC)
    annul(limited.world.events, "1", 2, reason="not a list of tags", by="ana", now=when)
    assert limited.follower.sweep().done
    record = limited.store.load(["1"])["1"].record
    assert record is not None
    assert (record.version, record.parked, record.annulled) == (4, None, (2,))
    assert record.values == {"profile": {"tags": ["ñ" * LARGE]}, "root": {"segment": "b"}}
    assert [entry.note for entry in limited.store.entries("1", AuditFilter())] == [None, "annulled", None, None]


def test_a_client_with_a_full_partition_parks(limited: Limited) -> None:
    """And goes on when there is room again and somebody asks for it."""
    limited.world.tell("1", Graded(segment="a"))
    limited.follower.sweep()
    limited.fill("1", spare=400)
    limited.world.tell("1", Graded(segment="b"), Graded(segment="c"))
    assert limited.follower.sweep().done
    parked = parked_of(limited.store.parked()[0])
    assert parked[:3] == (2, 3, "commit_refused")
    assert parked.problems[0].endswith("(403/1014)")
    limited.fill("1", spare=10_000)
    assert retry_parked(limited.projector, limited.store, every=True) == (1, 1)
    assert limited.trail("1") == [1, 2, 3]


def test_a_partition_too_full_for_the_mark_is_an_error_of_its_client(limited: Limited) -> None:
    """Others are projected, in its page and behind, and the cursor stays before it until there is room."""
    limited.world.tell("1", Graded(segment="a" * 2000))
    limited.follower.sweep()
    limited.fill("1", spare=0)
    limited.world.tell("1", Graded(segment="b" * 2000))
    limited.world.tell("2", Graded(segment="a"))
    follower = FeedFollower(limited.projector, limited.world.events, limited.world.checkpoints, page=1)
    swept = follower.sweep()
    (error,) = swept.errors
    assert isinstance(error, StoreRefusedError)
    assert (error.status, error.sub_status) == (403, 1014)
    assert (swept.events, swept.done) == (0, False)
    assert (limited.trail("1"), limited.trail("2")) == ([1], [1])
    limited.fill("1", spare=100_000)
    swept = follower.sweep()
    assert (swept.events, swept.errors, swept.done) == (2, (), True)
    assert limited.trail("1") == [1, 2]


@pytest.mark.parametrize("kind", ["batch", "query"])
def test_a_missing_permission_is_nobodys_fault_and_raised(limited: Limited, kind: str) -> None:
    """No client is parked for it, and no cursor moves."""
    limited.world.tell("1", Graded(segment="a"))
    limited.server.inject(faults.forbidden(), kind=kind)
    with pytest.raises(StoreRefusedError, match="give it the data contributor role"):
        limited.follower.sweep()
    assert limited.store.parked() == []
    assert limited.follower.sweep().events == 1
    assert limited.projector.catch_up("1", Target(1)).parked is None


def test_a_history_that_was_restored_to_an_older_state_parks(limited: Limited) -> None:
    """Other events stand where folded ones stood: the record stays as it is until somebody decides to fold it again."""
    with Containers(limited.server) as containers:
        container = containers.open(EVENTS_CONTAINER)
        CosmosEventStore(container).append("1", [fact(Graded(segment=each)) for each in "abc"], expected_version=0)
        Projector(clients, CosmosEventStore(container), limited.store).catch_up("1", Target(3))
        for version in (2, 3):
            container.delete_item(f"{version:012}", "1")  # what a restore comes to
        restored = CosmosEventStore(container)  # in a new process
        appended = restored.append("1", [fact(Graded(segment=each)) for each in "xyz"], expected_version=1)
        projector = Projector(clients, restored, limited.store)
        record = projector.catch_up("1", Target(4, appended.events))
        assert (record.version, record.values) == (3, {"root": {"segment": "c"}})
        assert parked_of(record)[:3] == (3, 4, "history_forked")
        record = projector.catch_up("1", Target(0, refold=True))
        assert (record.version, record.parked, record.values) == (4, None, {"root": {"segment": "z"}})
