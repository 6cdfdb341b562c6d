"""Deliverer, store and REST strategy together, against a real target with faults."""

from threading import Event, Thread
from typing import Literal

import pytest

from eventstore import SqliteDatabase
from integrations import DeliveryResult, RESTIntegration
from tests.integrations.world import Clock, World
from tests.support.rest_target import Fault, RestTarget

CLAIM = 30.0


def crm(target: RestTarget, *, lookup: bool = False, timeout: float = 5.0) -> RESTIntegration:
    return RESTIntegration(
        target.url,
        create="POST /contacts",
        update="PUT /contacts/{remote}",
        retract="DELETE /contacts/{remote}",
        lookup="GET /contacts?email={email}" if lookup else None,
        timeout=timeout,
        sleep=lambda _: None,
    )


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize("by", ["key", "lookup"])
def test_a_create_whose_answer_was_lost_makes_one_contact(
    database: SqliteDatabase, clock: Clock, drop: Literal["before", "after"], by: str
) -> None:
    """Whether the target honours the key or is asked first: the client is there once, with its reference known."""
    with RestTarget(honour_idempotency=by == "key") as target:
        world = World(database, clock, strategy=crm(target, lookup=by == "lookup"))
        target.script(Fault(drop=drop))
        world.announce("c1", "a@x")
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
        clock.advance(CLAIM)
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
        assert list(target.items("contacts").values()) == [{"email": "a@x"}]
        assert world.state().remote in target.items("contacts")


def test_a_call_that_lands_late_does_not_win(database: SqliteDatabase, clock: Clock) -> None:
    """A target that refuses lower seqs keeps the newer state when an older call is applied after it."""
    with RestTarget(honour_client_seq=True) as target:
        world = World(database, clock, strategy=crm(target, timeout=0.1))
        world.announce("c1", "a@x")
        world.deliverer.deliver("c1", "crm")
        landing = Event()
        target.script(Fault(hold=landing))
        world.announce("c1", "old@x")
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
        world.announce("c1", "new@x")
        clock.advance(CLAIM)
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
        landing.set()
        target.wait_until_idle()
    assert [request.json["email"] for request in target.requests] == ["a@x", "old@x", "new@x"]
    assert list(target.items("contacts").values()) == [{"email": "new@x"}]


def test_a_contact_deleted_at_the_target_is_created_again(
    rest: RestTarget, database: SqliteDatabase, clock: Clock
) -> None:
    """An update of something gone becomes a create, with a key of its own."""
    world = World(database, clock, strategy=crm(rest))
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    rest.forget("contacts", "1")
    rest.script(Fault(status=404))
    world.announce("c1", "b@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
    clock.advance(2)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert rest.items("contacts") == {"2": {"email": "b@x"}}
    assert len({request.headers["idempotency-key"] for request in rest.requests}) == 3


def test_a_target_that_returns_gets_the_latest_state(database: SqliteDatabase, clock: Clock) -> None:
    """After an outage with many changes each client arrives in its last state, and nothing is lost."""
    target = RestTarget()
    world = World(database, clock, strategy=crm(target))
    for round_number in range(3):
        for number in range(10):
            world.announce(f"c{number}", f"{round_number}-{number}@x")
    target.start()
    target.script(*[Fault(status=503)] * 10)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.RETRYING: 10}}
    clock.advance(CLAIM)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 10}}
    target.stop()
    assert sorted(item["email"] for item in target.items("contacts").values()) == [f"2-{n}@x" for n in range(10)]


def test_two_processes_make_one_call(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """While one waits for the answer, the other one finds the claim and makes no call."""
    world = World(database, clock, strategy=crm(rest))
    answer = Event()
    rest.script(Fault(hold_answer=answer))
    world.announce("c1", "a@x")
    first = Thread(target=world.deliverer.deliver, args=("c1", "crm"))
    first.start()
    rest.wait_for_request()
    assert world.another_deliverer().deliver("c1", "crm") is DeliveryResult.CLAIMED
    answer.set()
    first.join(10)
    assert len(rest.requests) == 1
    assert world.state().delivered == 1


def test_seqs_never_decrease_at_the_target(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """Through drops, throttling and refusals a target sees one client's calls in order."""
    world = World(database, clock, strategy=crm(rest))
    rest.script(
        Fault(drop="after"),
        Fault(),
        Fault(status=500),
        Fault(status=400),
        Fault(drop="before"),
        Fault(status=429),
        Fault(),
    )
    for number in range(30):
        world.announce("c1", f"{number}@x")
        world.deliverer.deliver("c1", "crm")
        clock.advance(11)
    clock.advance(60)
    world.deliverer.deliver_due()
    seqs = [int(request.headers["client-seq"]) for request in rest.requests]
    assert seqs == sorted(seqs)
    assert "29@x" in [item["email"] for item in rest.items("contacts").values()]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_record_is_listed_and_a_corrected_one_goes_at_once(
    rest: RestTarget, database: SqliteDatabase, clock: Clock, status: int
) -> None:
    """The entry shows the target's answer with secrets masked; the next body does not wait for anything."""
    world = World(database, clock, strategy=crm(rest))
    rest.script(Fault(status=status, body=b'{"field":"email","password":"hunter2"}'))
    world.announce("c1", "wrong")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert [state.client_id for state in world.store.failed("crm")] == ["c1"]
    (entry,) = world.log()
    assert entry.status == status
    assert '"field":"email"' in entry.answer
    assert "hunter2" not in entry.answer
    world.announce("c1", "right@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert world.store.failed("crm") == []
    assert [item["email"] for item in rest.items("contacts").values()] == ["right@x"]
