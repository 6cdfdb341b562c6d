"""Deliveries on Cosmos DB under the faults, costs and races that only a distant database has."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from eventstore import (
    ContentionError,
    InvalidClientIdError,
    StoreRefusedError,
    StoreUnavailableError,
    check_client_id,
)
from integrations import (
    DELIVERIES_CONTAINER,
    CosmosDeliveryStore,
    Deliverer,
    DeliveryResult,
    DeliveryState,
    Integration,
    LogEntry,
    Pause,
)
from tests.integrations.world import Clock, TargetDouble, client, mail
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer, Fault, faults

pytestmark = pytest.mark.cosmos_wire

NOON = "2026-01-31T12:00:00.000000Z"
LATER = "2026-01-31T12:00:01.000000Z"
RAISED = DeliveryState("c1", "crm", wanted=1, due_at=NOON)

FAULTS = {
    "dropped after": faults.dropped(stored=True),
    "dropped before": faults.dropped(stored=False),
    "408 after": faults.request_timeout(stored=True),
    "408 before": faults.request_timeout(),
    "429": faults.throttled(),
    "429 inside": faults.operation_failed(429),
    "449": faults.retry_with(),
    "449 inside": faults.operation_failed(449),
    "503 after": faults.unavailable(stored=True),
    "503 before": faults.unavailable(),
}
any_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def containers(server: CosmosServer) -> Iterator[Containers]:
    with Containers(server) as containers:
        yield containers


def open_store(containers: Containers) -> CosmosDeliveryStore:
    """A store with a client of its own that does not sleep between rounds."""
    return CosmosDeliveryStore(containers.open(DELIVERIES_CONTAINER), sleep=lambda _: None)


@pytest.fixture
def store(containers: Containers) -> CosmosDeliveryStore:
    return open_store(containers)


def cost(server: CosmosServer, work: Any) -> int:
    """Requests for data that some work takes."""
    with server.meter.measure() as used:
        work()
    return used.data_requests.total()


def entry(number: int, *, seq: int = 1, code: str = "ok") -> LogEntry:
    """The entry of an attempt; those of higher numbers are newer."""
    return LogEntry("c1", "crm", number, f"2026-01-31T12:00:{number % 60:02}.000000Z", seq, "send", "delivered", code)


def saved(store: CosmosDeliveryStore, state: DeliveryState, tag: str | None = None) -> str:
    """The tag of a state that goes through."""
    new_tag = store.save(state, tag)
    assert new_tag is not None
    return new_tag


def test_calls_cost_what_the_design_says(server: CosmosServer, store: CosmosDeliveryStore) -> None:
    """Raising takes 2 requests for all integrations, nothing to raise 1, loading and saving 1, with or without entry."""
    wanted = {f"crm{number}": 1 for number in range(20)}
    store.load("warm", "crm")
    assert cost(server, lambda: store.raise_wanted("c1", wanted, at=NOON)) == 2
    assert cost(server, lambda: store.raise_wanted("c1", wanted, at=NOON)) == 1
    assert cost(server, lambda: store.load("c1", "crm1")) == 1
    assert cost(server, lambda: store.of_client("c1")) == 1
    assert cost(server, lambda: saved(store, RAISED)) == 1
    held = store.load("c1", "crm")
    assert held is not None
    state = held.state._replace(entries=1)
    assert cost(server, lambda: store.save(state, held.tag, entry=entry(1))) == 1
    assert cost(server, lambda: store.entries("c1")) == 1
    assert cost(server, lambda: store.save_pause(Pause("crm", NOON), None)) == 1
    assert cost(server, lambda: store.load_pause("crm")) == 1


@any_fault
def test_a_save_without_a_clear_answer_is_settled(
    server: CosmosServer, store: CosmosDeliveryStore, fault: Fault
) -> None:
    """Whatever became of the first attempt: the state is stored, its entry once, and the tag is good for the next."""
    store.raise_wanted("c1", {"crm": 1}, at=NOON)
    held = store.load("c1", "crm")
    assert held is not None
    injected = server.inject(fault, kind="batch")
    tag = store.save(held.state._replace(delivered=1, entries=1), held.tag, entry=entry(1))
    assert injected.hits == 1
    assert tag is not None
    assert [each.number for each in store.entries("c1").entries] == [1]
    second = held.state._replace(delivered=1, entries=2)
    assert store.save(second, tag, entry=entry(2)) is not None
    assert [each.number for each in store.entries("c1").entries] == [2, 1]


@any_fault
def test_a_creation_without_a_clear_answer_is_settled(
    server: CosmosServer, store: CosmosDeliveryStore, fault: Fault
) -> None:
    """A state and a pause that were not there before are there once, under the tag that is told."""
    server.inject(fault, kind="batch")
    tag = saved(store, RAISED)
    assert store.load("c1", "crm") == (RAISED, tag)
    server.inject(fault, kind="batch")
    pause = Pause("crm", NOON, "http_429")
    tag = store.save_pause(pause, None) or ""
    assert store.load_pause("crm") == (pause, tag)


@any_fault
def test_raising_without_a_clear_answer_is_settled(
    server: CosmosServer, store: CosmosDeliveryStore, fault: Fault
) -> None:
    """All integrations are raised together, those that were known and those that were not."""
    store.raise_wanted("c1", {"crm": 1}, at=NOON)
    server.inject(fault, kind="batch")
    store.raise_wanted("c1", {"crm": 2, "mailing": 2}, at=LATER)
    assert list(store.of_client("c1")) == [
        DeliveryState("c1", "crm", wanted=2, due_at=NOON),
        DeliveryState("c1", "mailing", wanted=2, due_at=LATER),
    ]


@any_fault
def test_a_lost_race_stays_lost_whatever_the_answers(
    server: CosmosServer, containers: Containers, store: CosmosDeliveryStore, fault: Fault
) -> None:
    """A save on an old tag stores nothing, also if the service never says so clearly at first."""
    tag = saved(store, RAISED)
    other = open_store(containers)
    saved(other, RAISED._replace(attempts=1), tag)
    server.inject(fault, kind="batch")
    assert store.save(RAISED._replace(entries=1), tag, entry=entry(1)) is None
    held = store.load("c1", "crm")
    assert held is not None
    assert (held.state.attempts, held.state.entries) == (1, 0)
    assert list(store.entries("c1").entries) == []


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_reading_back_an_older_state_does_not_mislead(
    server: CosmosServer, store: CosmosDeliveryStore, lag: int
) -> None:
    """Replicas behind by several writes: the repeated write finds out, everything is stored once and told as stored."""
    store.load("c1", "crm")
    server.settings.stale_writes = lag
    tag: str | None = None
    for number in range(1, 7):
        if number % 3 == 0:  # two with an answer in between, which the next read need not have seen either
            server.inject(faults.dropped(stored=True), kind="batch")
        tag = store.save(RAISED._replace(entries=number), tag, entry=entry(number))
        assert tag is not None
    server.inject(faults.dropped(stored=True), kind="batch")
    store.raise_wanted("c1", {"crm": 7, "mailing": 7}, at=NOON)
    for _ in range(lag):  # each read that lags brings the replica one write nearer
        store.load("c1", "crm")
    assert [(state.wanted, state.entries) for state in store.of_client("c1")] == [(7, 6), (7, 0)]
    assert [each.number for each in store.entries("c1").entries] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("logged", [True, False])
def test_a_save_overtaken_before_it_was_confirmed_is_known_to_be_stored(
    server: CosmosServer, containers: Containers, store: CosmosDeliveryStore, *, logged: bool
) -> None:
    """It is told as stored, but the tag does not let the caller write over what came on top."""
    tag = saved(store, RAISED)
    other = open_store(containers)
    gate = faults.Gate()
    server.inject(Fault(408, stored=True, gate=gate), kind="batch")
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(store.save, RAISED._replace(entries=int(logged)), tag, entry=entry(1) if logged else None)
        gate.wait_for_request()
        other.raise_wanted("c1", {"crm": 5}, at=NOON)
        if logged:  # an entry bears witness even if the whole state was written anew
            held = other.load("c1", "crm")
            assert held is not None
            saved(other, held.state._replace(attempts=1), held.tag)
        gate.release()
        new_tag = work.result(timeout=30)
    assert new_tag is not None
    assert store.save(RAISED._replace(entries=2), new_tag) is None
    held = store.load("c1", "crm")
    assert held is not None
    assert (held.state.wanted, held.state.entries) == (5, int(logged))


def test_one_of_many_equal_writes_wins(server: CosmosServer, containers: Containers) -> None:
    """Probes that write the very same pause, half of them without an answer: exactly one is told it won."""
    stores = [open_store(containers) for _ in range(3)]
    tag = stores[0].save_pause(Pause("crm", NOON, "http_429"), None)
    server.inject(faults.dropped(stored=True), kind="batch", times=4)
    server.inject(faults.dropped(stored=False), kind="batch", times=2)
    with ThreadPoolExecutor(9) as pool:
        tags = list(pool.map(lambda n: stores[n % 3].save_pause(Pause("crm", LATER, "http_429"), tag), range(9)))
    won = [each for each in tags if each is not None]
    assert len(won) == 1
    assert stores[0].load_pause("crm").tag == won[0]


def test_raising_is_repeated_after_a_conflict(
    server: CosmosServer, containers: Containers, store: CosmosDeliveryStore
) -> None:
    """Who read before another announcement reads again; neither of them is lost."""
    store.raise_wanted("c1", {"crm": 1}, at=NOON)
    other = open_store(containers)
    gate = faults.Gate()
    server.inject(faults.slow(gate), kind="batch")
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(partial(store.raise_wanted, "c1", {"crm": 3, "mailing": 3}, at=LATER))
        gate.wait_for_request()
        other.raise_wanted("c1", {"crm": 2, "mailing": 4}, at=NOON)
        gate.release()
        work.result(timeout=30)
    assert [(state.integration, state.wanted) for state in store.of_client("c1")] == [("crm", 3), ("mailing", 4)]


def test_endless_trouble_ends_in_an_error_that_says_try_again(server: CosmosServer, store: CosmosDeliveryStore) -> None:
    """A service that never answers is not waited for for ever, and nobody is told success."""
    tag = saved(store, RAISED)
    server.inject(faults.dropped(stored=False), kind="batch", times=1000)
    with pytest.raises(StoreUnavailableError):
        store.save(RAISED._replace(entries=1), tag, entry=entry(1))
    with pytest.raises(StoreUnavailableError):
        store.raise_wanted("c1", {"crm": 2}, at=NOON)
    assert store.load("c1", "crm") == (RAISED, tag)


@pytest.mark.parametrize("fault", [faults.partition_full(), faults.forbidden(), faults.too_large()])
def test_what_the_service_will_never_take_is_said_at_once(
    server: CosmosServer, store: CosmosDeliveryStore, fault: Fault
) -> None:
    """A full partition, a missing role and an oversized document are errors of their own, and nothing is stored."""
    tag = saved(store, RAISED)
    injected = server.inject(fault, kind="batch", times=2)
    with pytest.raises(StoreRefusedError):
        store.save(RAISED._replace(entries=1), tag, entry=entry(1))
    with pytest.raises(StoreRefusedError):
        store.raise_wanted("c1", {"crm": 2}, at=NOON)
    assert injected.hits == 2
    assert store.load("c1", "crm") == (RAISED, tag)


def test_a_log_entry_is_never_written_over(store: CosmosDeliveryStore) -> None:
    """A number that is taken is an error, and neither the entry nor the state changes."""
    tag = store.save(RAISED._replace(entries=1), None, entry=entry(1, code="first"))
    with pytest.raises(ContentionError):
        store.save(RAISED._replace(entries=1, attempts=1), tag, entry=entry(1, code="second"))
    assert [each.code for each in store.entries("c1").entries] == ["first"]
    assert store.load("c1", "crm") == (RAISED._replace(entries=1), tag)


def test_what_was_deleted_is_not_replaced(containers: Containers) -> None:
    """A state that went away after it was loaded stays away, and the container is not said to be missing."""
    container = containers.open(DELIVERIES_CONTAINER)
    store = CosmosDeliveryStore(container)
    tag = saved(store, RAISED)
    container.delete_item("state:crm", "c1")
    assert store.save(RAISED._replace(attempts=1), tag) is None
    assert store.load("c1", "crm") is None
    store.raise_wanted("c1", {"crm": 1}, at=NOON)
    assert list(store.of_client("c1")) == [RAISED]


def test_a_read_that_is_behind_does_not_pass_for_nothing(server: CosmosServer, store: CosmosDeliveryStore) -> None:
    """A replica that cannot serve the session is an error, not a client without a state."""
    saved(store, RAISED)
    store.load("c1", "crm")
    server.inject(Fault(404, 1002), kind="read", times=5)
    with pytest.raises((StoreRefusedError, StoreUnavailableError)):
        store.load("c1", "crm")


def test_pauses_are_kept_where_no_client_can_be(server: CosmosServer, store: CosmosDeliveryStore) -> None:
    """The partition of the pauses is no client id, and no query for deliveries finds a pause."""
    store.save_pause(Pause("crm", NOON, "http_429"), None)
    (document,) = server.documents("flow", "deliveries")
    with pytest.raises(InvalidClientIdError):
        check_client_id(document["client_id"])
    assert list(store.due("crm")) == list(store.failed("crm")) == list(store.of_client(document["client_id"])) == []


def test_lists_go_over_pages_and_ranges(store: CosmosDeliveryStore) -> None:
    """More clients than fit one page come in order, however they lie in the ranges."""
    names = [f"c{number:03}" for number in range(250)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: saved(store, DeliveryState(name, "crm", due_at=NOON, failed_code="x")), names))
    assert [state.client_id for state in store.failed("crm", limit=300)] == names
    assert [state.client_id for state in store.failed("crm", after="c199", limit=20)] == names[200:220]
    assert sorted(state.client_id for state in store.due("crm", limit=300)) == names
    assert len(store.due("crm", limit=20)) == 20


def test_many_writers_under_faults_lower_nothing(server: CosmosServer, containers: Containers) -> None:
    """Announcements and attempts race on one client while answers get lost: wanted only rises, each entry is there once."""
    stores = [open_store(containers), open_store(containers)]
    server.inject(faults.dropped(stored=True), kind="batch", times=6, skip=4)
    server.inject(faults.dropped(stored=False), kind="batch", times=6, skip=9)
    server.inject(faults.operation_failed(449), kind="batch", times=6, skip=15)
    server.inject(faults.unavailable(stored=True), kind="batch", times=2, skip=30)

    def announce(number: int) -> None:
        for seq in range(number + 1, 41, 4):
            while True:
                try:
                    stores[number % 2].raise_wanted("c1", {"crm": seq, "mailing": 100 - seq}, at=NOON)
                except ContentionError:
                    continue
                break

    def attempt(number: int) -> int:
        done = 0
        while done < 8:
            held = stores[number % 2].load("c1", "crm")
            if held is None:
                continue
            state = held.state._replace(delivered=held.state.wanted, entries=held.state.entries + 1)
            logged = entry(state.entries, seq=state.wanted)
            done += stores[number % 2].save(state, held.tag, entry=logged) is not None
        return done

    with ThreadPoolExecutor(8) as pool:
        announcing = [pool.submit(announce, number) for number in range(4)]
        attempts = [pool.submit(attempt, number) for number in range(4)]
        for work in announcing:
            work.result(timeout=60)
        done = sum(work.result(timeout=60) for work in attempts)
    crm, mailing = open_store(containers).of_client("c1")
    assert (crm.wanted, mailing.wanted) == (40, 99)
    assert crm.entries == done == 32
    log = sorted(stores[0].entries("c1").entries, key=lambda each: each.number)
    assert [each.number for each in log] == list(range(1, 33))
    assert [each.seq for each in log] == sorted(each.seq for each in log)


@any_fault
@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_a_delivery_under_faults_is_made_and_logged_once(
    server: CosmosServer, store: CosmosDeliveryStore, fault: Fault, skipped: int
) -> None:
    """Whichever write loses its answer - announcement, claim or result - the target is called once and one entry tells."""
    target, clock = TargetDouble(), Clock()
    crm = Integration(name="crm", cares_about=("contact",), mapping=mail, strategy=target)
    deliverer = Deliverer([crm], store, store, lambda _: client("c1", "a@x"), clock=clock)
    injected = server.inject(fault, kind="batch", skip=skipped)
    store.raise_wanted("c1", {"crm": 1}, at=clock.text)
    assert deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert injected.hits == 1
    assert target.bodies == [{"email": "a@x"}]
    assert [each.code for each in store.entries("c1").entries] == ["ok"]
    held = store.load("c1", "crm")
    assert held is not None
    assert (held.state.delivered, held.state.claimed_until, held.state.due_at) == (1, None, None)
