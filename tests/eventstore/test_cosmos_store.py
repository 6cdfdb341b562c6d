"""The event store on Cosmos DB under the faults and costs that only a distant database has."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventstore import (
    ANY,
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    NO_STREAM,
    Appended,
    ContentionError,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    EventIdReusedError,
    OutcomeUnknownError,
    StoreRefusedError,
    StoreUnavailableError,
)
from tests.support.cosmos import Containers
from tests.support.events import email, emails, is_intact
from tests.wire.cosmos import CosmosServer, Fault, faults

pytestmark = pytest.mark.cosmos_wire


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def containers(server: CosmosServer) -> Iterator[Containers]:
    with Containers(server) as containers:
        yield containers


def open_store(containers: Containers) -> CosmosEventStore:
    """A store that does not sleep between rounds."""
    return CosmosEventStore(containers.open(EVENTS_CONTAINER), sleep=lambda _: None)


def cost(server: CosmosServer, work: Any) -> int:
    """Requests for data that some work takes."""
    with server.meter.measure() as used:
        work()
    return used.data_requests.total()


def test_appends_cost_what_the_design_says(server: CosmosServer, containers: Containers) -> None:
    """Known client 1 request, unknown client 2, a new stream 1, a repeat 2 or 3, a batch no more than one event."""
    store = open_store(containers)
    store.append("warm", emails(1), expected_version=ANY)
    assert cost(server, lambda: store.append("c1", emails(1), expected_version=ANY)) == 2
    assert cost(server, lambda: store.append("c1", emails(2), expected_version=ANY)) == 1
    assert cost(server, lambda: store.append("c1", emails(3, 4, 5), expected_version=ANY)) == 1
    assert cost(server, lambda: store.append("c2", emails(1), expected_version=NO_STREAM)) == 1
    assert cost(server, lambda: store.append("c1", emails(2), expected_version=ANY)) == 2
    assert cost(server, lambda: open_store(containers).append("c1", emails(2), expected_version=ANY)) <= 3 + 1


@pytest.mark.parametrize(
    "fault",
    [
        faults.dropped(stored=True),
        faults.dropped(stored=False),
        faults.request_timeout(stored=True),
        faults.unavailable(stored=True),
        faults.unavailable(),
        faults.retry_with(),
        faults.throttled(),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("events", [1, 3])
def test_a_write_without_a_clear_answer_is_settled_by_reading(
    server: CosmosServer, containers: Containers, fault: Fault, events: int
) -> None:
    """Whatever became of the first attempt, the events are stored once and the caller is told their versions."""
    store = open_store(containers)
    store.append("c1", emails(0), expected_version=ANY)
    server.inject(fault, kind="create" if events == 1 else "batch", times=1)
    appended = store.append("c1", emails(*range(1, events + 1)), expected_version=ANY)
    assert [event.version for event in appended.events] == list(range(2, events + 2))
    assert appended.duplicates == frozenset()
    stream = list(store.read("c1"))
    assert [event.version for event in stream] == list(range(1, events + 2))
    assert is_intact(stream)


def test_a_stale_head_only_costs_a_round(containers: Containers) -> None:
    """A second process that appended in between is noticed by the version it took."""
    first, second = open_store(containers), open_store(containers)
    first.append("c1", emails(1), expected_version=ANY)
    second.append("c1", emails(2), expected_version=ANY)
    assert first.append("c1", emails(3), expected_version=ANY).version == 3
    assert is_intact(list(first.read("c1")))


def test_other_content_under_a_stored_id_is_refused(containers: Containers) -> None:
    """The refusal comes from reading back, not from the conflict alone."""
    store = open_store(containers)
    store.append("c1", emails(1), expected_version=ANY)
    with pytest.raises(EventIdReusedError):
        store.append("c1", [email(1, address="other@x.example")], expected_version=ANY)


def test_endless_trouble_ends_in_an_error_that_says_try_again(server: CosmosServer, containers: Containers) -> None:
    """A service that never answers is not waited for for ever, and nobody is told success."""
    store = open_store(containers)
    store.append("c1", emails(1), expected_version=ANY)
    server.inject(faults.dropped(stored=False), kind="create", times=100)
    with pytest.raises(StoreUnavailableError):
        store.append("c1", emails(2), expected_version=ANY)
    assert [event.version for event in store.read("c1")] == [1]


@pytest.mark.parametrize("fault", [faults.partition_full(), faults.forbidden(), faults.too_large()])
def test_what_the_service_will_never_take_is_said_at_once(
    server: CosmosServer, containers: Containers, fault: Fault
) -> None:
    """A full partition, a missing role and an oversized document are errors of their own, and nothing is stored."""
    store = open_store(containers)
    store.append("c1", emails(1), expected_version=ANY)
    server.inject(fault, kind="create")
    with pytest.raises(StoreRefusedError) as refused:
        store.append("c1", emails(2), expected_version=ANY)
    assert refused.value.status in {403, 413}
    assert [event.version for event in store.read("c1")] == [1]


def test_many_writers_under_faults_keep_the_stream_whole(server: CosmosServer, containers: Containers) -> None:
    """Threads of two processes, lost answers and repeats: versions 1..n, each event once, each caller told the truth."""
    stores = [open_store(containers), open_store(containers)]
    for kind in ("create", "batch"):
        server.inject(faults.dropped(stored=True), kind=kind, times=3, skip=2)
        server.inject(faults.unavailable(), kind=kind, times=3, skip=7)

    def work(number: int) -> list[Appended]:
        done = []
        for key in range(number * 10, number * 10 + 10):
            for store in stores if key % 3 == 0 else stores[number % 2 : number % 2 + 1]:
                try:
                    done.append(store.append("c1", emails(key), expected_version=ANY))
                except (ContentionError, OutcomeUnknownError):
                    done.append(store.append("c1", emails(key), expected_version=ANY))
        return done

    with ThreadPoolExecutor(6) as pool:
        told = [appended for done in pool.map(work, range(6)) for appended in done]
    stream = list(open_store(containers).read("c1"))
    assert [event.version for event in stream] == list(range(1, 61))
    assert len({event.event_id for event in stream}) == 60
    assert is_intact(stream)
    assert {event.hash for appended in told for event in appended.events} == {event.hash for event in stream}


def test_callers_of_one_process_share_requests(server: CosmosServer, containers: Containers) -> None:
    """200 concurrent appends to one client take at most 1.5 requests each."""
    store = open_store(containers)
    store.append("c1", emails(0), expected_version=ANY)
    with ThreadPoolExecutor(32) as pool:
        used = cost(
            server,
            lambda: list(pool.map(lambda key: store.append("c1", emails(key), expected_version=ANY), range(1, 201))),
        )
    assert used <= 300
    assert [event.version for event in store.read("c1")] == list(range(1, 202))


def test_a_split_loses_and_repeats_nothing(server: CosmosServer, containers: Containers) -> None:
    """The cursor of a range that was split goes on over both parts."""
    events = containers.open(EVENTS_CONTAINER)
    store = CosmosEventStore(events)
    feed = CosmosChangeFeed(events, CosmosCheckpointStore(containers.open(INTAKE_CONTAINER)))
    cursors: dict[str, str | None] = dict.fromkeys(feed.partitions())
    seen: list[str] = []

    def follow() -> None:
        for partition in feed.partitions():
            while (page := feed.feed(partition, after=cursors[partition], limit=5)).events:
                cursors[partition] = page.cursor
                seen.extend(f"{event.client_id}/{event.version}" for event in page.events)

    for number in range(20):
        store.append(f"c{number}", emails(1, 2), expected_version=NO_STREAM)
    follow()
    server.split("flow", "events", "0")
    for number in range(20):
        store.append(f"c{number}", emails(3), expected_version=ANY)
    follow()
    follow()
    assert sorted(seen) == sorted(f"c{number}/{version}" for number in range(20) for version in (1, 2, 3))
