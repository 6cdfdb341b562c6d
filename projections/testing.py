"""A testing kit for events, rules and projections: the real projector on SQLite in memory, for any test runner.

    Scenario(clients, "7").given(Contacted(email="a@x")).when(Contacted(phone="1")).twice().then(
        contact={"email": "a@x", "phone": "1"}
    ).changed("contact.phone")

What does not hold raises AssertionError, which says what was expected and what came.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import islice, permutations
from math import factorial
from random import Random
from typing import Any, Self
from weakref import finalize

from pydantic_core import to_jsonable_python

from eventstore import (
    ANY,
    Event,
    EventData,
    RecordedEvent,
    SqliteCheckpointStore,
    SqliteEventStore,
    open_events,
)

from .follower import FeedFollower
from .golden import check_golden, write_golden
from .ports import AuditFilter
from .projector import Projector
from .record import ROOT, WHOLE, AuditEntry, Record, empty_record
from .rules import Projection
from .sqlite import SqliteProjectionStore, open_projections
from .target import Target

__all__ = ["START", "Scenario", "check_delivery", "check_golden", "check_order", "write_golden"]

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the first event occurs, unless told otherwise; the others follow a minute apart."""
_MINUTE = timedelta(minutes=1)
_ROUNDS = 10


class _World:
    """Stores in memory, and a client in them."""

    def __init__(self, projection: Projection[Any], client_id: str) -> None:
        self.projection = projection
        self.client_id = client_id
        self.now = START
        history, state = open_events(None), open_projections(None)
        self._opened = ExitStack()
        self._opened.enter_context(closing(history))
        self._opened.enter_context(closing(state))
        self.events = SqliteEventStore(history, clock=lambda: self.now)
        self.store = SqliteProjectionStore(state, projection, clock=lambda: self.now)
        self.projector = Projector(projection, self.events, self.store)
        self.follower = FeedFollower(self.projector, self.events, SqliteCheckpointStore(state))

    def close(self) -> None:
        self._opened.close()

    def append(self, data: Sequence[EventData]) -> Sequence[RecordedEvent]:
        return self.events.append(self.client_id, data, expected_version=ANY).events

    def ring(self, recorded: Sequence[RecordedEvent]) -> None:
        self.projector.catch_up(self.client_id, Target(max(event.version for event in recorded), recorded))

    def sweep(self) -> None:
        for error in self.follower.sweep().errors:
            raise error

    def fold_again(self) -> None:
        self.projector.catch_up(self.client_id, Target(0, refold=True))

    def record(self) -> Record:
        return self.store.load([self.client_id])[self.client_id].record or empty_record(self.client_id)

    def trail(self, *, after: int = 0) -> Sequence[AuditEntry]:
        return self.store.entries(self.client_id, AuditFilter(), after=after, limit=2**31)


class Scenario:
    """Given a past, when events come, then the record is this. Each method returns the scenario.

    Args:
        projection: schema and rules.
        client_id: text of the client id.
    """

    def __init__(self, projection: Projection[Any], client_id: str) -> None:
        self._projection = projection
        self._world = _World(projection, client_id)
        finalize(self, self._world.close)
        self._next = START
        self._told = 0
        self._came: list[EventData] = []
        self._before = 0  # version of the record when the events of `when` came

    def given(self, *events: Event, at: datetime | None = None) -> Self:
        """What happened before; what it announced is not looked at.

        Args:
            events: in order of arrival, a minute apart.
            at: when the first of them occurred; a minute after the latest one so far if not given.
        """
        self._tell(events, at)
        self._world.store.delete(self._world.store.pending(self._world.client_id))
        self._came, self._before = [], self._told
        return self

    def when(self, *events: Event, at: datetime | None = None) -> Self:
        """What comes now; see `given`."""
        self._came += self._tell(events, at)
        return self

    def twice(self) -> Self:
        """The events of `when` are delivered a second time, which must change nothing."""
        once = self._state()
        if self._came:
            self._world.ring(self._world.append(self._came))
        _expect("the second delivery to change nothing", once, self._state())
        return self

    def then(self, **contents: Any) -> Self:
        """What the record holds.

        Args:
            contents: by sub-schema a mapping of its fields (others have their defaults), or None; by name of plain
                value its value. What is not named is not looked at.
        """
        record, layout = self._world.record(), self._projection.layout
        found = self._projection.contents(self._projection.build(record.client_id, record.values))
        for name, content in contents.items():
            value = to_jsonable_python(content)
            if name in layout.root:
                plain: Any = found[ROOT]
                _expect(f"{name} to be", value, plain[name], self._note())
                continue
            if name not in layout.sub_schemas:
                raise AssertionError(f"The schema has no {name!r}; it has {', '.join(layout.names)}.")
            fields = {WHOLE: value} if layout.sub_schemas[name].one_value else value
            wanted = self._projection.build(record.client_id, {} if value is None else {name: fields})
            _expect(f"{name} to be", self._projection.contents(wanted)[name], found[name], self._note())
        return self

    def changed(self, *paths: str) -> Self:
        """Exactly these fields were changed by the events of `when`, as `contact.phone`, or `address.*` for one value."""
        _expect("these fields to change", sorted(paths), self._paths(superseded=False), self._note())
        return self

    def superseded(self, *paths: str) -> Self:
        """Exactly these fields kept what a later fact had said."""
        _expect("these fields to be superseded", sorted(paths), self._paths(superseded=True), self._note())
        return self

    def announced(self, *sub_schemas: str) -> Self:
        """Exactly these sub-schemas were announced since `given`; none if none is named."""
        entries = self._world.store.pending(self._world.client_id)
        _expect(
            "to announce", sorted(sub_schemas), sorted({n for entry in entries for n in entry.contents}), self._note()
        )
        return self

    def parked(self, code: str) -> Self:
        """The client is parked for this reason."""
        parked = self._world.record().parked
        _expect("to be parked with", code, parked and parked.code, self._note())
        return self

    def _tell(self, events: Sequence[Event], at: datetime | None) -> list[EventData]:
        first = at or self._next
        data = _data(self._projection, events, first, key=self._told)
        if data:
            self._told += len(data)
            self._next = max(self._next, first + len(data) * _MINUTE)
            self._world.now = max(self._world.now, self._next)
            self._world.ring(self._world.append(data))
        return data

    def _paths(self, *, superseded: bool) -> list[str]:
        changes = (change for entry in self._world.trail(after=self._before) for change in entry.changes)
        return sorted({f"{each.sub_schema}.{each.field}" for each in changes if each.superseded == superseded})

    def _state(self) -> Any:
        return self._world.record(), self._world.trail(), self._world.store.pending(self._world.client_id)

    def _note(self) -> str:
        parked = self._world.record().parked
        why = "; ".join(parked.problems) if parked else ""
        return f" The client is parked at version {parked.version}: {parked.code} {why}".rstrip() if parked else ""


def check_delivery(projection: Projection[Any], client_id: str, events: Sequence[Event], *, seed: int = 0) -> None:
    """However doorbells come, and when folded again, record and audit are the same as when each event came in its turn.

    Args:
        projection: schema and rules.
        client_id: text of the client id.
        events: in order of arrival, a minute apart.
        seed: chooses batches, and which doorbells are late, doubled, out of order or lost.

    Raises:
        AssertionError: they differ; says in which way of delivery.
    """
    data, random = _data(projection, events, START), Random(seed)  # noqa: S311 - chooses cases, no secret
    with closing(_opened(projection, client_id, data)) as live:
        for each in data:
            live.ring(live.append([each]))
        expected = live.record(), live.trail()
        live.fold_again()
        _expect("folding again in place to equal live", expected, (live.record(), live.trail()))
    with closing(_opened(projection, client_id, data)) as fresh:
        fresh.append(data)
        fresh.sweep()
        _expect("a fresh fold to equal live", expected, (fresh.record(), fresh.trail()))
    for number in range(_ROUNDS):
        with closing(_opened(projection, client_id, data)) as world:
            _deliver_badly(world, data, random)
            _expect(f"bad delivery {number} to equal live", expected, (world.record(), world.trail()))


def check_order(projection: Projection[Any], client_id: str, events: Sequence[Event], *, seed: int = 0) -> None:
    """In whatever order events arrive that occurred at different times, the record comes to the same values.

    All orders of up to five events are tried, and a hundred of more.

    Args:
        projection: schema and rules.
        client_id: text of the client id.
        events: in order of occurrence, a minute apart.
        seed: chooses the orders.

    Raises:
        AssertionError: one order comes to other values; says which.
    """
    data = _data(projection, events, START)
    expected: Any = None
    for order in _orders(len(data), seed):
        with closing(_opened(projection, client_id, data)) as world:
            world.append([data[place] for place in order])
            world.sweep()
            record = world.record()
        found = (record.values, record.parked and record.parked.code)
        expected = found if expected is None else expected
        _expect(f"arrival in the order {list(order)} to come to the same", expected, found)


def _orders(length: int, seed: int) -> Iterable[Sequence[int]]:
    """Orders of arrival, the plain one first."""
    few = 120
    if factorial(length) <= few:
        return islice(permutations(range(length)), few)
    random = Random(seed)  # noqa: S311 - chooses cases, no secret
    return [range(length), *(random.sample(range(length), length) for _ in range(100))]


def _deliver_badly(world: _World, data: Sequence[EventData], random: Random) -> None:
    """Append in batches of any size; a doorbell may ring late, twice, out of order or never; at last comes the sweep."""
    late: list[RecordedEvent] = []
    place = 0
    while place < len(data):
        size = random.randint(1, 3)
        late += world.append(data[place : place + size])
        place += size
        random.shuffle(late)
        for event in late[: random.randint(0, len(late))]:
            world.ring([event])
        if random.random() < 0.5:  # noqa: PLR2004 - half of them are lost, the others ring again
            late = []
    world.sweep()


def _opened(projection: Projection[Any], client_id: str, data: Sequence[EventData]) -> _World:
    """A world in which all of the events have occurred, so that none is taken for one of the future."""
    world = _World(projection, client_id)
    world.now = START + len(data) * _MINUTE
    return world


def _data(projection: Projection[Any], events: Sequence[Event], first: datetime, *, key: int = 0) -> list[EventData]:
    return [
        projection.events.event_data(event, source="test", key=str(key + number), occurred_at=first + number * _MINUTE)
        for number, event in enumerate(events)
    ]


def _expect(what: str, expected: Any, found: Any, note: str = "") -> None:
    if found != expected:
        raise AssertionError(f"Expected {what}: {expected!r}; came {found!r}.{note}")
