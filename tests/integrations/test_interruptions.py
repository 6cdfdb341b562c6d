"""A process that ends between any two writes: whoever comes next finishes the work, and nothing goes backwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pytest

from eventstore import SqliteDatabase
from integrations import (
    Body,
    Deliverer,
    Delivery,
    DeliveryResult,
    DeliveryState,
    Effect,
    HeldState,
    LogEntry,
    Outcome,
    SqliteDeliveryStore,
    Verdict,
)
from tests.integrations.world import OK, Clock, World

Saved = TypeVar("Saved")


class KilledError(BaseException):
    """Ends a call like the end of its process: no `except Exception` sees it."""


class MortalStore:
    """The store, with an end before or after one of its writes."""

    def __init__(self, store: SqliteDeliveryStore, point: str) -> None:
        self._store = store
        self._point = point

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        self._around("raise", lambda: self._store.raise_wanted(client_id, wanted, at=at))

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        name = "claim" if entry is None else "finish"
        return self._around(name, lambda: self._store.save(state, tag, entry=entry))

    def load(self, client_id: str, integration: str) -> HeldState | None:
        return self._store.load(client_id, integration)

    def due(self, integration: str, *, before: str | None = None, limit: int = 100) -> Sequence[DeliveryState]:
        return self._store.due(integration, before=before, limit=limit)

    def failed(self, integration: str, *, after: str = "", limit: int = 100) -> Sequence[DeliveryState]:
        return self._store.failed(integration, after=after, limit=limit)

    def of_client(self, client_id: str) -> Sequence[DeliveryState]:
        return self._store.of_client(client_id)

    def wanted(self, client_ids: Sequence[str]) -> Mapping[str, int]:
        return self._store.wanted(client_ids)

    def _around(self, name: str, work: Callable[[], Saved]) -> Saved:
        if self._point == f"before {name}":
            raise KilledError
        result = work()
        if self._point == f"after {name}":
            raise KilledError
        return result


class MortalTarget:
    """A target that keeps what it was given, with an end before or after one call."""

    def __init__(self) -> None:
        self.point = ""
        self.has: dict[str, Body] = {}
        self.seqs: list[int] = []

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        return self._around(delivery, lambda: self.has.update({delivery.client_id: body}))

    def retract(self, delivery: Delivery) -> Outcome:
        return self._around(delivery, lambda: self.has.pop(delivery.client_id, None))

    def _around(self, delivery: Delivery, work: Callable[[], object]) -> Outcome:
        if self.point == "before call":
            raise KilledError
        self.seqs.append(delivery.seq)
        work()
        if self.point == "after call":
            raise KilledError
        return OK


POINTS = ["before claim", "after claim", "before call", "after call", "before finish", "after finish"]


@pytest.fixture
def mortal() -> MortalTarget:
    return MortalTarget()


@pytest.fixture
def world(database: SqliteDatabase, clock: Clock, mortal: MortalTarget) -> World:
    return World(database, clock, strategy=mortal)


def killed_at(world: World, mortal: MortalTarget, point: str) -> Deliverer:
    """A process that ends at that point."""
    mortal.point = point
    return world.another_deliverer(MortalStore(world.store, point))


def finish(world: World, mortal: MortalTarget, clock: Clock) -> None:
    """What the sweeps of the processes that live on do."""
    mortal.point = ""
    for _ in range(5):
        world.another_deliverer().deliver_due()
        clock.advance(40)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("later", ["a@x", "b@x", None])
def test_an_interrupted_delivery_is_finished(
    world: World, mortal: MortalTarget, clock: Clock, point: str, later: str | None
) -> None:
    """Wherever it ends, and whatever the record becomes, the sweep brings the target to the record."""
    world.announce("c1", "a@x")
    with pytest.raises(KilledError):
        killed_at(world, mortal, point).deliver("c1", "crm")
    seq = world.announce("c1", later)
    finish(world, mortal, clock)
    assert mortal.has == ({} if later is None else {"c1": {"email": later}})
    state = world.state()
    assert (state.wanted, state.delivered, state.due_at) == (seq, seq, None)
    assert mortal.seqs == sorted(mortal.seqs)
    assert [entry.number for entry in world.log()] == list(range(1, len(world.log()) + 1))


@pytest.mark.parametrize("point", POINTS)
def test_an_interrupted_change_back_is_finished(world: World, mortal: MortalTarget, clock: Clock, point: str) -> None:
    """A, B interrupted, A again: the target ends with A, also when B had arrived unnoticed."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    with pytest.raises(KilledError):
        killed_at(world, mortal, point).deliver("c1", "crm")
    world.announce("c1", "a@x")
    finish(world, mortal, clock)
    assert mortal.has == {"c1": {"email": "a@x"}}


@pytest.mark.parametrize("point", POINTS[1:5])
def test_others_keep_away_from_an_interrupted_delivery(
    world: World, mortal: MortalTarget, clock: Clock, point: str
) -> None:
    """Until the claim of the dead process has ended, nobody calls the target for this client."""
    world.announce("c1", "a@x")
    with pytest.raises(KilledError):
        killed_at(world, mortal, point).deliver("c1", "crm")
    mortal.point = ""
    before = list(mortal.seqs)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.CLAIMED
    clock.advance(29)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.CLAIMED
    assert mortal.seqs == before
    clock.advance(1)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED


@pytest.mark.parametrize("point", POINTS)
def test_processes_that_die_one_after_the_other_lose_nothing(
    world: World, mortal: MortalTarget, clock: Clock, point: str
) -> None:
    """Five deaths at the same point, with changes in between, end like none."""
    for number in range(5):
        world.announce("c1", f"{number}@x")
        with pytest.raises(KilledError):
            killed_at(world, mortal, point).deliver("c1", "crm")
        clock.advance(40)
    finish(world, mortal, clock)
    assert mortal.has == {"c1": {"email": "4@x"}}
    assert world.state().delivered == 5


@pytest.mark.parametrize("point", ["before raise", "after raise"])
def test_an_announcement_that_was_interrupted_is_noted_again(world: World, mortal: MortalTarget, point: str) -> None:
    """Noting the same announcement once more ends with the same state as once."""
    store = MortalStore(world.store, point)
    with pytest.raises(KilledError):
        store.raise_wanted("c1", {"crm": 1}, at=world.clock.text)
    world.announce("c1", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert mortal.seqs == [1]


def test_doubt_outlives_a_call_that_had_no_effect(database: SqliteDatabase, clock: Clock) -> None:
    """B may have landed before its process died; the next call never left; back at A, the target is still told."""
    world = World(database, clock)
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    world.target.script(KilledError(), Outcome(verdict=Verdict.RETRY, code="unreachable", effect=Effect.NONE))
    with pytest.raises(KilledError):
        world.deliverer.deliver("c1", "crm")
    clock.advance(30)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
    world.announce("c1", "a@x")
    clock.advance(30)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert world.target.bodies[-1] == {"email": "a@x"}
