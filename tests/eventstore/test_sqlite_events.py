"""What the SQLite event store adds to the contract: the database itself guards the history, across processes too."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventstore import (
    ANY,
    EventIdReusedError,
    SqliteDatabase,
    SqliteEventStore,
    StoreUnavailableError,
    StoreVersionError,
    WrongExpectedVersionError,
    open_events,
)
from tests.support.events import NOON, email, emails, is_intact


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_events(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def store(database: SqliteDatabase) -> SqliteEventStore:
    return SqliteEventStore(database, clock=lambda: NOON)


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of this software, as a person with a SQL shell has."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_a_restored_file_is_fed_from_the_beginning(tmp_path: Path) -> None:
    """A cursor that stood behind an event which is not there is of another history, also where a new event has its place."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    with contextlib.closing(open_events(older)) as database:
        kept = list(SqliteEventStore(database).append("c1", emails(1, 2), expected_version=ANY).events)
    shutil.copytree(older, newer)
    with contextlib.closing(open_events(newer)) as database:
        store = SqliteEventStore(database)
        passed = store.feed("all", after=None, limit=10).cursor
        store.append("c1", emails(3), expected_version=ANY)
        beyond = store.feed("all", after=passed, limit=10)
        assert len(beyond.events) == 1
    with contextlib.closing(open_events(older)) as database:
        store = SqliteEventStore(database)
        assert list(store.feed("all", after=passed, limit=10).events) == []
        assert list(store.feed("all", after=beyond.cursor, limit=10).events) == kept
        kept += store.append("c1", emails(4), expected_version=ANY).events
        again = store.feed("all", after=beyond.cursor, limit=2)
        assert [*again.events, *store.feed("all", after=again.cursor, limit=2).events] == kept


COPY = "SELECT {position}, {client_id}, {version}, {event_id}, 'x', 1, 'x', '', '', NULL, NULL, '{{}}', '' FROM events"
COPIED = {"position": "NULL", "client_id": "client_id", "version": "3", "event_id": "'x:new'"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{}' WHERE version = 1",
        "UPDATE OR REPLACE events SET version = 1 WHERE version = 2",
        "DELETE FROM events WHERE version = 2",
        "DELETE FROM events",
        *(
            f"{verb} INTO events {COPY.format(**COPIED | changed)} WHERE version = 2"
            for verb in ("INSERT", "INSERT OR REPLACE", "REPLACE")
            for changed in (
                {"version": "version"},
                {"event_id": "event_id"},
                {"position": "position"},
                {"version": "0"},
                {"version": "4"},
                {"client_id": "'c2'"},
            )
        ),
    ],
)
def test_the_database_refuses_to_change_history(
    database: SqliteDatabase, store: SqliteEventStore, statement: str
) -> None:
    """No event is changed, deleted or replaced, no id used twice and no gap made, also past this software."""
    before = store.append("c1", emails(1, 2), expected_version=ANY).events
    with raw(database.path) as connection, pytest.raises(sqlite3.IntegrityError, match="append only"):
        connection.execute(statement)
    assert list(store.read("c1")) == list(before)
    assert list(store.feed("all", after=None, limit=10).events) == list(before)


def test_the_database_accepts_what_continues_a_stream(database: SqliteDatabase, store: SqliteEventStore) -> None:
    """The statements above fail for their reasons and not for their form."""
    store.append("c1", emails(1, 2), expected_version=ANY)
    with raw(database.path) as connection:
        connection.execute(f"INSERT INTO events {COPY.format(**COPIED)} WHERE version = 2")
    assert store.head("c1").version == 3
    assert not is_intact(list(store.read("c1")))


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM events WHERE client_id = 'c' AND version > 1 ORDER BY version LIMIT 9", "events_by_version"),
        ("SELECT * FROM events WHERE client_id = 'c' ORDER BY version DESC LIMIT 1", "events_by_version"),
        ("SELECT * FROM events WHERE client_id = 'c' AND event_id IN ('a', 'b')", "events_by_id"),
        ("SELECT * FROM events WHERE position > 7 ORDER BY position LIMIT 9", "INTEGER PRIMARY KEY"),
    ],
)
def test_every_query_has_its_index(database: SqliteDatabase, query: str, index: str) -> None:
    """Reading a stream or a page costs the same however many events there are."""
    with database.read() as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    assert index in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


def test_events_of_a_newer_version_are_refused(database: SqliteDatabase, tmp_path: Path) -> None:
    """Old code does not append to a history it does not understand."""
    with raw(database.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreVersionError, match=r"events\.db has schema version 99"):
        open_events(tmp_path)


def test_a_store_that_was_overtaken_finds_its_way(database: SqliteDatabase, store: SqliteEventStore) -> None:
    """What one process remembers of a stream is no reason to break it when another went on."""
    other = SqliteEventStore(database, clock=lambda: NOON)
    store.append("c1", emails(1), expected_version=ANY)
    other.append("c1", emails(2, 3), expected_version=1)
    with pytest.raises(WrongExpectedVersionError):
        store.append("c1", emails(4), expected_version=1)
    with pytest.raises(EventIdReusedError):
        store.append("c1", [email(4), email(2, address="other@x.example")], expected_version=ANY)
    assert store.append("c1", emails(2), expected_version=ANY).duplicates == {"crm:2"}
    mixed = store.append("c1", emails(5, 3), expected_version=3)
    assert [event.version for event in mixed.events] == [4, 3]
    assert other.append("c1", emails(6), expected_version=4).version == 5
    assert is_intact(list(store.read("c1")))


def test_a_full_disk_is_told_and_nothing_is_half_appended(database: SqliteDatabase, store: SqliteEventStore) -> None:
    """An append that does not fit leaves the stream as it was, and works once there is room."""
    store.append("c1", emails(1), expected_version=ANY)
    database.write(lambda connection: connection.execute("PRAGMA max_page_count=1").fetchone())
    large = [email(n, address="x" * 5000) for n in range(2, 40)]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="full"):
            store.append("c1", large, expected_version=1)
        assert store.head("c1").version == 1
    database.write(lambda connection: connection.execute("PRAGMA max_page_count=100000").fetchone())
    assert store.append("c1", large, expected_version=1).version == 39
    assert is_intact(list(store.read("c1")))


def test_a_job_that_fails_in_a_crowd_leaves_the_appends_of_others(store: SqliteEventStore) -> None:
    """A call that is refused before or inside the transaction costs nobody else an event."""

    def caller(number: int) -> bool:
        try:
            store.append("c1" if number % 3 else "c2", emails(number), expected_version=ANY if number % 4 else 777)
        except WrongExpectedVersionError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        served = [number for number, done in enumerate(pool.map(caller, range(80))) if done]
    assert served == [number for number in range(80) if number % 4]
    streams = [list(store.read("c1")), list(store.read("c2"))]
    assert all(is_intact(stream) for stream in streams)
    assert sorted(event.event_id for stream in streams for event in stream) == sorted(f"crm:{n}" for n in served)


APPEND = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from eventstore import ANY, SqliteEventStore, open_events
from tests.support.events import email

store = SqliteEventStore(open_events(Path(sys.argv[1])))
first, last = int(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
for number in range(first, last):
    store.append(f"c{number % 3}", [email(number), email(number + 1000)], expected_version=ANY)
"""


def test_two_processes_append_to_the_same_clients(tmp_path: Path) -> None:
    """With ids of their own and ids in common: versions 1 to n, each id once, one chain."""
    ranges = [("0", "60"), ("40", "100")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(tmp_path), *bounds],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for bounds in ranges
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint
    with contextlib.closing(open_events(tmp_path)) as database:
        store = SqliteEventStore(database)
        streams = [list(store.read(f"c{number}")) for number in range(3)]
    assert all(is_intact(stream) for stream in streams)
    expected = {f"crm:{number + offset}" for number in range(100) for offset in (0, 1000)}
    assert sorted(event.event_id for stream in streams for event in stream) == sorted(expected)
