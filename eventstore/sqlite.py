"""The event store and its change feed on SQLite."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from .appending import check_append, check_expected_version, still_to_append
from .client_id import check_client_id
from .events import EMPTY_STREAM, EventData, RecordedEvent, StreamHead, record_events
from .ports import Appended, ClientPage, ExpectedVersion, FeedPage
from .recent_heads import RecentHeads
from .sqlite_database import SqliteDatabase, sqlite_integer
from .sqlite_intake import CHECKPOINTS_TABLE, OPEN_REJECTIONS_INDEX, REJECTIONS_TABLE

_MIGRATIONS = [
    [
        # position is the feed's order: one writer at a time, so a higher position was committed later.
        """
        CREATE TABLE events (
            position INTEGER PRIMARY KEY,
            client_id TEXT NOT NULL,
            version INTEGER NOT NULL,
            event_id TEXT NOT NULL,
            event_type TEXT NOT NULL,
            schema_version INTEGER NOT NULL,
            source TEXT NOT NULL,
            occurred_at TEXT NOT NULL,
            recorded_at TEXT NOT NULL,
            correlation_id TEXT,
            traceparent TEXT,
            data TEXT NOT NULL,
            hash TEXT NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX events_by_version ON events (client_id, version)",
        "CREATE UNIQUE INDEX events_by_id ON events (client_id, event_id)",
        "CREATE TRIGGER events_never_change BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append only'); END",
        "CREATE TRIGGER events_never_vanish BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append only'); END",
        # INSERT OR REPLACE removes rows without a word to the trigger above, so nothing may stand in an event's place;
        # and a version that does not follow the last one would be a gap.
        """
        CREATE TRIGGER events_only_continue BEFORE INSERT ON events
        WHEN NEW.version <> 1 + ifnull((SELECT max(version) FROM events WHERE client_id = NEW.client_id), 0)
            OR EXISTS (SELECT 1 FROM events WHERE client_id = NEW.client_id AND event_id = NEW.event_id)
            OR EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
        BEGIN SELECT RAISE(ABORT, 'append only'); END
        """,
        REJECTIONS_TABLE,
        OPEN_REJECTIONS_INDEX,
        CHECKPOINTS_TABLE,
    ]
]

_COLUMNS = (
    "client_id, version, event_id, event_type, schema_version, source, occurred_at, recorded_at, correlation_id, "
    "traceparent, data, hash"
)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FEED = f"SELECT {_COLUMNS}, position FROM events WHERE position >= ? ORDER BY position LIMIT ?"
_BEGINNING = "0"  # cursor of a feed that nothing was read of
# One step down the index for each client, however many events it has.
_CLIENTS = """
    WITH RECURSIVE clients(client_id) AS (
        SELECT min(client_id) FROM events WHERE client_id > ?
        UNION ALL
        SELECT (SELECT min(e.client_id) FROM events e WHERE e.client_id > c.client_id)
        FROM clients c WHERE c.client_id IS NOT NULL
    )
"""
_version = attrgetter("version")
_DATA = 10  # index of the payload among the columns
_NO_END = 2**62
_PAGE = 500  # events held in memory while a stream is read


def open_events(directory: Path | None, *, busy_timeout: float = 5.0) -> SqliteDatabase:
    """The file `events.db` of a data directory: events, rejections and the checkpoints of those who bring events.

    Args:
        directory: created if it does not exist; None keeps everything in memory, for one thread.
        busy_timeout: seconds to wait for another process that writes.

    Raises:
        StoreVersionError: a newer version of this software wrote it.
        StoreUnavailableError: it cannot be opened.
    """
    return SqliteDatabase(directory and directory / "events.db", _MIGRATIONS, busy_timeout=busy_timeout)


class SqliteEventStore:
    """`EventStore`, `ChangeFeed` and `ClientDirectory` in one SQLite file; the feed has one partition, named `all`.

    Args:
        database: from `open_events`.
        clock: source of `recorded_at`.
    """

    def __init__(self, database: SqliteDatabase, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock
        self._heads = RecentHeads()

    def append(self, client_id: str, events: Sequence[EventData], *, expected_version: ExpectedVersion) -> Appended:
        """See `EventStore.append`. Costs one commit, shared with whoever appends at the same time."""
        check_append(client_id, events)
        appended = self._database.write(
            lambda connection: self._append(connection, client_id, events, expected_version)
        )
        self._heads.put(client_id, max(appended.events, key=_version))
        return appended

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`."""
        check_client_id(client_id)
        after, last = sqlite_integer(after), sqlite_integer(_NO_END if until is None else until)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM events WHERE client_id = ? AND version > ? AND version <= ? "
                    "ORDER BY version LIMIT ?",
                    (client_id, after, last, _PAGE),
                ).fetchall()
            yield from map(_from_row, rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][1]

    def head(self, client_id: str) -> StreamHead:
        """See `EventStore.head`."""
        check_client_id(client_id)
        with self._database.read() as connection:
            return _head(connection, client_id)

    def foreign(self, client_id: str) -> Sequence[str]:
        """See `EventStore.foreign`: the table holds events only."""
        check_client_id(client_id)
        return ()

    def partitions(self) -> Sequence[str]:
        """See `ChangeFeed.partitions`."""
        return ("all",)

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:  # noqa: ARG002 - there is only one
        """See `ChangeFeed.feed`.

        A cursor names the event it stands behind. If that is not there, the file is another one, as after a restore from a
        backup: what was passed was another history, so this one starts at the beginning.
        """
        position = _position(after)
        with self._database.read() as connection:
            rows = connection.execute(_FEED, (position, limit + 1)).fetchall()
            if rows and _cursor(rows[0]) == after:
                del rows[0]
            elif position > 0:
                rows = connection.execute(_FEED, (0, limit)).fetchall()
                after = None
        del rows[limit:]
        return FeedPage([_from_row(row) for row in rows], _cursor(rows[-1]) if rows else after or _BEGINNING)

    def clients(self, partition: str, *, after: str | None, limit: int) -> ClientPage:  # noqa: ARG002 - there is only one
        """See `ClientDirectory.clients`: by ascending client id."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"{_CLIENTS} SELECT client_id FROM clients WHERE client_id IS NOT NULL LIMIT ?", (after or "", limit)
            ).fetchall()
        found = [client_id for (client_id,) in rows]
        return ClientPage(found, found[-1] if len(found) == limit else None)

    def known(self, client_ids: Sequence[str]) -> Collection[str]:
        """See `ClientDirectory.known`: one query, however many clients."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM events WHERE client_id = value)",
                (orjson.dumps(client_ids).decode(),),
            ).fetchall()
        return {client_id for (client_id,) in rows}

    def count_clients(self, partition: str) -> int:  # noqa: ARG002 - there is only one
        """See `ClientDirectory.count_clients`."""
        with self._database.read() as connection:
            (count,) = connection.execute(f"{_CLIENTS} SELECT count(client_id) FROM clients", ("",)).fetchone()
        return int(count)

    def _append(
        self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData], expected: ExpectedVersion
    ) -> Appended:
        head = self._heads.get(client_id, expected)
        if head is not None:
            recorded = record_events(client_id, head, events, self._clock())
            if _insert(connection, recorded, events):
                return Appended(tuple(recorded), frozenset())
        stored = _stored(connection, client_id, [event.event_id for event in events])
        duplicates = frozenset(stored)
        fresh = still_to_append(client_id, events, stored)
        if fresh:
            head = _head(connection, client_id)
            check_expected_version(client_id, expected, head)
            recorded = record_events(client_id, head, fresh, self._clock())
            connection.executemany(_INSERT, map(_to_row, recorded, fresh))
            stored.update((event.event_id, event) for event in recorded)
        return Appended(tuple(stored[event.event_id] for event in events), duplicates)


def _insert(connection: sqlite3.Connection, recorded: Sequence[RecordedEvent], events: Sequence[EventData]) -> bool:
    """Insert events on trust in a head kept in mind; False if a version or an id is taken, and nothing is inserted."""
    several = len(recorded) > 1  # one statement that fails undoes itself
    if several:
        connection.execute("SAVEPOINT trust")
    try:
        connection.executemany(_INSERT, map(_to_row, recorded, events))
        trusted = True
    except sqlite3.IntegrityError:
        trusted = False
        if several:
            connection.execute("ROLLBACK TO trust")
    if several:
        connection.execute("RELEASE trust")
    return trusted


def _stored(connection: sqlite3.Connection, client_id: str, event_ids: list[str]) -> dict[str, RecordedEvent]:
    marks = ", ".join("?" * len(event_ids))
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE client_id = ? AND event_id IN ({marks})",
        (client_id, *event_ids),
    )
    return {row[2]: _from_row(row) for row in rows}


def _head(connection: sqlite3.Connection, client_id: str) -> StreamHead:
    row = connection.execute(
        "SELECT version, hash, recorded_at FROM events WHERE client_id = ? ORDER BY version DESC LIMIT 1", (client_id,)
    ).fetchone()
    return EMPTY_STREAM if row is None else StreamHead(*row)


def _cursor(row: Sequence[Any]) -> str:
    """The cursor behind an event of the feed."""
    return f"{row[-1]} {row[-2]}"


def _position(cursor: str | None) -> int:
    return int((cursor or _BEGINNING).partition(" ")[0])


def _to_row(event: RecordedEvent, data: EventData) -> tuple[Any, ...]:
    return (*event[:_DATA], data.json.decode(), event.hash)


def _from_row(row: Sequence[Any]) -> RecordedEvent:
    return RecordedEvent._make((*row[:_DATA], orjson.loads(row[_DATA]), row[_DATA + 1]))
