"""Saboteurs: stores with one safeguard removed. The contract has to fail for each, else it proves nothing."""

import inspect
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    ANY,
    Appended,
    EventData,
    EventStoreError,
    ExpectedVersion,
    FeedPage,
    RecordedEvent,
    SqliteDatabase,
    SqliteEventStore,
    StreamHead,
    open_events,
)
from eventstore.appending import check_expected_version, still_to_append
from eventstore.events import record_events
from eventstore.sqlite import _INSERT, _head, _stored, _to_row
from tests.contracts.test_change_feed import CLIENTS, ChangeFeedContract
from tests.contracts.test_event_store import EventStoreContract, SettableClock
from tests.support.events import emails

CRITERIA = (AssertionError, EventStoreError, sqlite3.Error, pytest.fail.Exception)


class Careless(SqliteEventStore):
    """Appends step by step, so that a saboteur can leave out one of them; as it is, it is a store like any other."""

    def _append(
        self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData], expected: ExpectedVersion
    ) -> Appended:
        stored = self.look_up(connection, client_id, events)
        duplicates = frozenset(stored)
        fresh = still_to_append(client_id, events, stored)
        head = self.look_at_head(connection, client_id)
        if fresh:
            self.check_expected(client_id, expected, head)
            recorded = self.record(client_id, head, fresh)
            connection.executemany(_INSERT, map(_to_row, recorded, fresh))
            stored |= {event.event_id: event for event in recorded}
        return Appended(tuple(stored[event.event_id] for event in events), duplicates)

    def look_up(
        self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData]
    ) -> dict[str, RecordedEvent]:
        return _stored(connection, client_id, [event.event_id for event in events])

    def look_at_head(self, connection: sqlite3.Connection, client_id: str) -> StreamHead:
        return _head(connection, client_id)

    def check_expected(self, client_id: str, expected: ExpectedVersion, head: StreamHead) -> None:
        check_expected_version(client_id, expected, head)

    def record(self, client_id: str, head: StreamHead, events: Sequence[EventData]) -> list[RecordedEvent]:
        return record_events(client_id, head, events, self._clock())


class WithoutReadBack(Careless):
    def look_up(self, *_: Any) -> dict[str, RecordedEvent]:
        return {}


class WithoutExpectedVersion(Careless):
    def check_expected(self, *_: Any) -> None:
        pass


class WithoutContentCheck(Careless):
    def look_up(
        self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData]
    ) -> dict[str, RecordedEvent]:
        asked = {event.event_id: event for event in events}
        found = super().look_up(connection, client_id, events)
        return {
            event_id: event._replace(event_type=asked[event_id].event_type, data=asked[event_id].data)
            for event_id, event in found.items()
        }


class WithoutChain(Careless):
    def record(self, client_id: str, head: StreamHead, events: Sequence[EventData]) -> list[RecordedEvent]:
        return super().record(client_id, head._replace(hash=""), events)


class WithoutSteadyTime(Careless):
    def record(self, client_id: str, head: StreamHead, events: Sequence[EventData]) -> list[RecordedEvent]:
        return super().record(client_id, head._replace(recorded_at=""), events)


class WithCursorAhead(Careless):
    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        page = super().feed(partition, after=after, limit=limit)
        return page._replace(cursor=super().feed(partition, after=after, limit=limit + 1).cursor)


class WithCursorBehind(Careless):
    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        page = super().feed(partition, after=after, limit=limit)
        return page._replace(cursor=super().feed(partition, after=after, limit=max(1, limit - 1)).cursor)


@pytest.fixture
def failures(tmp_path: Path) -> Iterator[Callable[[type[SqliteEventStore]], set[str]]]:
    """Runs both contracts on a kind of store and gives the names of the tests that fail."""
    databases: list[SqliteDatabase] = []

    def store(kind: type[SqliteEventStore], name: str, clock: SettableClock) -> SqliteEventStore:
        databases.append(open_events(tmp_path / name))
        return kind(databases[-1], clock=clock)

    def run(kind: type[SqliteEventStore]) -> set[str]:
        failed = set()
        for contract in (EventStoreContract, ChangeFeedContract):
            for name, test in inspect.getmembers(contract, inspect.isfunction):
                supplies = supplied_by(partial(store, kind, name))
                wanted = list(inspect.signature(test).parameters)[1:]
                if not name.startswith("test_") or not set(wanted) <= set(supplies):
                    continue
                try:
                    test(contract(), *(supplies[each]() for each in wanted))
                except CRITERIA:
                    failed.add(name)
        return failed

    yield run
    for database in databases:
        database.close()


def supplied_by(open_store: Callable[[SettableClock], SqliteEventStore]) -> Mapping[str, Callable[[], object]]:
    """What the fixtures of the contracts would supply."""
    clock = SettableClock()
    return {
        "clock": lambda: clock,
        "store": lambda: open_store(clock),
        "filled": lambda: filled(open_store(clock)),
        "open_store": lambda: lambda: open_store(clock),
    }


def filled(store: SqliteEventStore) -> SqliteEventStore:
    for number in range(30):
        store.append(CLIENTS[number % len(CLIENTS)], emails(number), expected_version=ANY)
    return store


def test_a_store_with_all_safeguards_passes(failures: Callable[[type[SqliteEventStore]], set[str]]) -> None:
    """The saboteurs' own base does what the contract asks: it is the missing safeguard that fails the others."""
    assert failures(Careless) == set()


@pytest.mark.parametrize(
    ("saboteur", "caught_by"),
    [
        (WithoutReadBack, "test_a_repeat_changes_nothing"),
        (WithoutExpectedVersion, "test_one_of_two_with_the_same_expectation_wins"),
        (WithoutContentCheck, "test_an_id_with_other_data_is_refused"),
        (WithoutChain, "test_hashes_chain_the_stream"),
        (WithoutSteadyTime, "test_recorded_times_never_decrease"),
        (WithCursorAhead, "test_a_cursor_continues_where_its_page_ended"),
        (WithCursorBehind, "test_a_cursor_continues_where_its_page_ended"),
    ],
)
def test_the_contract_catches_each_saboteur(
    saboteur: type[SqliteEventStore], caught_by: str, failures: Callable[[type[SqliteEventStore]], set[str]]
) -> None:
    """A store that lacks one safeguard fails the test made for it."""
    assert caught_by in failures(saboteur)


VANDALISM = {
    "UPDATE": "UPDATE events SET data = '{}' WHERE version = 1",
    "DELETE": "DELETE FROM events WHERE version = 1",
    "REPLACE": "REPLACE INTO events SELECT * FROM events WHERE version = 1",
    "gap": "INSERT INTO events SELECT NULL, client_id, 9, 'x:9', 'x', 1, 'x', '', '', NULL, NULL, '{}', '' FROM events",
}


def vandalised(database: SqliteDatabase) -> set[str]:
    """What the database lets a person with a SQL shell do to a client's only event."""
    done = set()
    with database.read() as connection:
        path = connection.execute("PRAGMA database_list").fetchone()[2]
    for name, statement in VANDALISM.items():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN")
        try:
            connection.execute(statement)
            done.add(name)
        except sqlite3.IntegrityError:
            pass
        connection.execute("ROLLBACK")
        connection.close()
    return done


def drop(database: SqliteDatabase, guard: str) -> None:
    database.write(lambda connection: connection.execute(f"DROP {guard}"))


@pytest.mark.parametrize(
    ("guard", "lets_in"),
    [
        (None, set()),
        ("events_never_change", {"UPDATE"}),
        ("events_never_vanish", {"DELETE"}),
        ("events_only_continue", {"REPLACE", "gap"}),
    ],
)
def test_each_guard_in_the_database_is_needed(tmp_path: Path, guard: str | None, lets_in: set[str]) -> None:
    """Without one of the triggers exactly its kind of damage gets through."""
    database = open_events(tmp_path)
    SqliteEventStore(database).append("c1", emails(1), expected_version=ANY)
    if guard is not None:
        drop(database, f"TRIGGER {guard}")
    assert vandalised(database) == lets_in
    database.close()


class WithoutLook(SqliteEventStore):
    """Neither looks for the event nor at the head: it trusts the head it remembers, and the database to object."""

    def _append(self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData], *_: Any) -> Appended:
        head = self._heads.get(client_id, ANY) or _head(connection, client_id)
        recorded = record_events(client_id, head, events, self._clock())
        connection.executemany(_INSERT, map(_to_row, recorded, events))
        return Appended(tuple(recorded), frozenset())


@pytest.mark.parametrize("dropped", [(), ("TRIGGER events_only_continue", "INDEX events_by_id")])
def test_the_database_stops_a_store_that_does_not_look(tmp_path: Path, dropped: tuple[str, ...]) -> None:
    """An id is stored once even then; only without the trigger and the unique index it is stored twice."""
    database = open_events(tmp_path)
    for guard in dropped:
        drop(database, guard)
    store = WithoutLook(database)
    store.append("c1", emails(1), expected_version=ANY)
    if dropped:
        store.append("c1", emails(1), expected_version=ANY)
    else:
        with pytest.raises(EventStoreError):
            store.append("c1", emails(1), expected_version=ANY)
    assert len(list(store.read("c1"))) == (2 if dropped else 1)
    database.close()
