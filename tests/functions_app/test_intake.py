"""Intake: deliveries become stored events, or are refused with a reason."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from eventstore import (
    ClientId,
    Event,
    EventRegistry,
    RecordedEvent,
    SqliteEventStore,
    StoreUnavailableError,
    open_events,
)
from functions_app import Delivered, Fact, HeaderKey, InputRefusedError, Intake, NoKey, PayloadKey, Source
from functions_app.intake import Trace

CANARY = "Canary7"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

registry = EventRegistry()


class Number(ClientId):
    number: int


@registry.register("client.told")
class Told(Event):
    what: Any = None


class Unregistered(Event):
    what: Any = None


class Telling(BaseModel):
    """For each client what is told about it."""

    id: str = ""
    facts: list[tuple[int, Any]]
    at: datetime | None = None


def process(telling: Telling) -> Iterator[Fact]:
    for number, what in telling.facts:
        if what == "raise":
            raise ValueError(CANARY)
        yield Fact(Number(number=number), Told(what=what), telling.at)


source = Source(name="teller", payload=Telling, process=process, key=PayloadKey("id"))


class World(NamedTuple):
    intake: Intake
    store: SqliteEventStore
    rung: list[list[RecordedEvent]]

    def told(self, number: int) -> list[Any]:
        return [event.data["what"] for event in self.store.read(str(number))]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = open_events(tmp_path)
    store = SqliteEventStore(database)
    rung: list[list[RecordedEvent]] = []
    keys = iter(f"key-{number}" for number in range(1000))
    yield World(
        Intake(
            registry,
            store,
            notify=lambda events: rung.append(list(events)),
            clock=lambda: NOON,
            new_key=lambda: next(keys),
        ),
        store,
        rung,
    )
    database.close()


def telling(key: str, *facts: tuple[int, Any], **more: Any) -> Delivered:
    return Delivered({"id": key, "facts": list(facts), **more})


def test_one_fact_is_one_event_under_its_key(world: World) -> None:
    """Source and key make the event id; without a time of its own it became true at receipt."""
    [accepted] = world.intake.accept(source, telling("k", (1, "a")), Trace("request-1", None))
    event = accepted.event
    assert (event.client_id, event.event_id, event.event_type, event.source) == (
        "1",
        "teller:k",
        "client.told",
        "teller",
    )
    assert event.occurred_at == "2026-05-01T12:00:00.000000Z"
    assert event.correlation_id == "request-1"
    assert not accepted.duplicate


def test_several_facts_are_numbered(world: World) -> None:
    """Also over several clients, so that each keeps its number when the delivery is repeated."""
    delivered = telling("k", (1, "a"), (2, "b"), (1, "c"))
    accepted = world.intake.accept(source, delivered)
    assert sorted((each.event.client_id, each.event.event_id, each.event.version) for each in accepted) == [
        ("1", "teller:k:1", 1),
        ("1", "teller:k:3", 2),
        ("2", "teller:k:2", 1),
    ]
    assert all(each.duplicate for each in world.intake.accept(source, delivered))


def test_a_delivery_without_facts_is_accepted(world: World) -> None:
    """A source may tell something that concerns nobody."""
    assert world.intake.accept(source, telling("k")) == []
    assert world.rung == []


def test_the_doorbell_rings_for_new_events_only(world: World) -> None:
    """Once per call, after the events are stored; a repeat is silent."""
    world.intake.accept_all(source, [telling("a", (1, "x")), telling("b", (2, "y"))])
    assert [sorted(event.event_id for event in events) for events in world.rung] == [["teller:a", "teller:b"]]
    world.intake.accept_all(source, [telling("a", (1, "x")), telling("c", (2, "z"))])
    assert [event.event_id for event in world.rung[1]] == ["teller:c"]
    world.intake.accept(source, telling("a", (1, "x")))
    assert len(world.rung) == 2


def test_one_refused_delivery_harms_no_other(world: World) -> None:
    """Whatever is wrong with it, those before and after it are stored in their order."""
    results = world.intake.accept_all(
        source,
        [
            telling("a", (1, "first")),
            Delivered(CANARY),
            telling("a", (1, f"{CANARY}: another fact under the same key")),
            telling("b", (1, 2**60)),
            telling("", (1, "no key")),
            telling("c", (1, "raise")),
            telling("d", (-1, f"{CANARY}\0")),
            telling("e", (1, "last")),
        ],
    )
    codes = [result.code if isinstance(result, InputRefusedError) else "accepted" for result in results]
    assert codes == [
        "accepted",
        "invalid_payload",
        "event_id_reused",
        "invalid_event",
        "event_key_missing",
        "processor_raised",
        "invalid_event",
        "accepted",
    ]
    assert world.told(1) == ["first", "last"]
    assert CANARY not in "".join(map(str, results))


def test_more_than_a_transaction_takes_goes_in_portions(world: World) -> None:
    """Deliveries for one client are split until each portion fits; one that does not fit alone is refused."""
    results = world.intake.accept_all(source, [telling(f"k{number}", (1, number)) for number in range(250)])
    assert all(not isinstance(result, InputRefusedError) for result in results)
    assert world.told(1) == list(range(250))
    with pytest.raises(InputRefusedError) as caught:
        world.intake.accept(source, telling("large", *((2, number) for number in range(101))))
    assert caught.value.code == "invalid_event"
    assert world.told(2) == []


def test_a_delivery_for_two_clients_is_two_transactions(world: World) -> None:
    """If one part is refused the delivery counts as refused; a replay of the corrected one completes it."""
    world.intake.accept(source, telling("k:2", (2, "taken")))
    with pytest.raises(InputRefusedError) as caught:
        world.intake.accept(source, telling("k", (1, "a"), (2, "b")))
    assert caught.value.code == "event_id_reused"
    assert world.told(1) == ["a"]
    assert world.told(2) == ["taken"]


def test_a_key_of_whoever_delivers_goes_before_the_declared_one(world: World) -> None:
    """A line of a file is identified by its place, a rejection by what it had."""
    [accepted] = world.intake.accept(source, Delivered({"id": "", "facts": [[1, "a"]]}, key="line-7"))
    assert accepted.event.event_id == "teller:line-7"


def test_a_source_without_key_gets_a_new_one_each_time(world: World) -> None:
    """And so every delivery is a new event."""
    keyless = Source(name="anon", payload=Telling, process=process, key=NoKey())
    for _ in range(2):
        world.intake.accept(keyless, telling("", (1, "same")))
    assert [event.event_id for event in world.store.read("1")] == ["anon:key-0", "anon:key-1"]


def test_a_header_key_is_told_apart_by_the_place_in_a_batch(world: World) -> None:
    """Only in a batch: a single delivery has the key as it is."""
    by_header = Source(name="head", payload=Telling, process=process, key=HeaderKey("X-Id"))
    payload = {"facts": [[1, "same"]]}
    world.intake.accept(by_header, Delivered(payload, {"x-id": "h"}))
    world.intake.accept_all(by_header, [Delivered(payload, {"x-id": "b"}, place=place) for place in (0, 1)])
    assert [event.event_id for event in world.store.read("1")] == ["head:h", "head:b-0", "head:b-1"]


def test_an_event_that_nobody_registered_is_a_mistake_of_the_code(world: World) -> None:
    """It is raised, so that the delivery is tried again after a deployment; it is no fault of the input."""
    wrong = Source(
        name="wrong", payload=Telling, process=lambda _: [Fact(Number(number=1), Unregistered())], key=NoKey()
    )
    with pytest.raises(Exception, match="Unregistered is not registered"):
        world.intake.accept(wrong, telling(""))


def test_a_time_without_offset_is_refused(world: World) -> None:
    """Nobody knows when it is."""
    with pytest.raises(InputRefusedError) as caught:
        world.intake.accept(source, telling("k", (1, "a"), at="2026-05-01T12:00:00"))
    assert [path for path, _ in caught.value.problems] == ["occurred_at"]


def test_trouble_of_the_store_is_raised(tmp_path: Path) -> None:
    """It is no fault of the input, so nothing is refused; the whole call may be repeated."""
    database = open_events(tmp_path)
    intake = Intake(registry, SqliteEventStore(database))
    database.close()
    with pytest.raises(StoreUnavailableError):
        intake.accept(source, telling("k", (1, "a")))


def test_many_clients_are_stored_side_by_side(world: World) -> None:
    """Each client's facts in their order, whatever thread stored them."""
    deliveries = [telling(f"k{number}", (number % 20, number)) for number in range(200)]
    results = world.intake.accept_all(source, deliveries)
    for number, result in enumerate(results):
        assert not isinstance(result, InputRefusedError)
        assert result[0].event.event_id == f"teller:k{number}"
    for client in range(20):
        assert world.told(client) == list(range(client, 200, 20))


@given(
    deliveries=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 2), st.sampled_from(["x", "y", "raise"])), max_size=12
    ),
    cut=st.integers(0, 12),
)
@settings(max_examples=40, deadline=None)
def test_batches_are_the_same_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, deliveries: list[tuple[str, int, str]], cut: int
) -> None:
    """However deliveries are cut into calls, the streams and the results are the same."""
    outcomes = []
    for sizes in ([1] * len(deliveries), [cut, len(deliveries) - cut]):
        database = open_events(tmp_path_factory.mktemp("batches"))
        store = SqliteEventStore(database, clock=lambda: NOON)
        intake = Intake(registry, store, clock=lambda: NOON)
        rest = [telling(key, (client, what)) for key, client, what in deliveries]
        results: list[Any] = []
        for size in sizes:
            portion, rest = rest[: max(size, 0)], rest[max(size, 0) :]
            results += intake.accept_all(source, portion)
        shown = [
            result.code
            if isinstance(result, InputRefusedError)
            else [(each.event.client_id, each.event.version, each.duplicate) for each in result]
            for result in results
        ]
        outcomes.append((shown, [list(store.read(str(client))) for client in (1, 2)]))
        database.close()
    assert outcomes[0] == outcomes[1]
