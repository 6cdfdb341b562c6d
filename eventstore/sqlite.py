"""The event store, its change feed, checkpoints and rejections on SQLite."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from .appending import check_append, check_expected_version, still_to_append
from .canonical import canonical_json
from .errors import RejectionNotFoundError
from .events import EMPTY_STREAM, EventData, RecordedEvent, StreamHead, record_events
from .ports import Appended, ExpectedVersion, FeedPage, Rejection
from .sqlite_database import SqliteDatabase

CHECKPOINTS_TABLE = "CREATE TABLE checkpoints (name TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID"

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
        """
        CREATE TABLE rejections (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL,
            key TEXT,
            rejected_at TEXT NOT NULL,
            code TEXT NOT NULL,
            problems TEXT NOT NULL,
            payload BLOB,
            fingerprint TEXT UNIQUE
        )
        """,
        "CREATE INDEX open_rejections ON rejections (number) WHERE payload IS NOT NULL",
        CHECKPOINTS_TABLE,
    ]
]

_COLUMNS = (
    "client_id, version, event_id, event_type, schema_version, source, occurred_at, recorded_at, correlation_id, "
    "traceparent, data, hash"
)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DATA = 10  # index of the payload among the columns
_PAGE = 500  # events held in memory while a stream is read


def open_events(directory: Path) -> SqliteDatabase:
    """The file `events.db` of a data directory: events and rejections.

    Raises:
        StoreVersionError: a newer version of this software wrote it.
        StoreUnavailableError: it cannot be opened.
    """
    return SqliteDatabase(directory / "events.db", _MIGRATIONS)


class SqliteEventStore:
    """`EventStore` and `ChangeFeed` in one SQLite file; the feed has one partition, named `all`.

    Args:
        database: from `open_events`.
        clock: source of `recorded_at`.
    """

    def __init__(self, database: SqliteDatabase, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def append(self, client_id: str, events: Sequence[EventData], *, expected_version: ExpectedVersion) -> Appended:
        """See `EventStore.append`. Costs one commit, shared with whoever appends at the same time."""
        check_append(client_id, events)
        return self._database.write(lambda connection: self._append(connection, client_id, events, expected_version))

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`."""
        last = 2**62 if until is None else until
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
        with self._database.read() as connection:
            return _head(connection, client_id)

    def partitions(self) -> Sequence[str]:
        """See `ChangeFeed.partitions`."""
        return ("all",)

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:  # noqa: ARG002 - there is only one
        """See `ChangeFeed.feed`."""
        position = int(after or 0)
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, position FROM events WHERE position > ? ORDER BY position LIMIT ?",
                (position, limit),
            ).fetchall()
        return FeedPage([_from_row(row) for row in rows], str(rows[-1][-1] if rows else position))

    def _append(
        self, connection: sqlite3.Connection, client_id: str, events: Sequence[EventData], expected: ExpectedVersion
    ) -> Appended:
        stored = _stored(connection, client_id, [event.event_id for event in events])
        fresh = still_to_append(client_id, events, stored)
        if fresh:
            head = _head(connection, client_id)
            check_expected_version(client_id, expected, head)
            recorded = record_events(client_id, head, fresh, self._clock())
            connection.executemany(_INSERT, map(_to_row, recorded))
            duplicates = frozenset(stored)
            stored.update((event.event_id, event) for event in recorded)
        else:
            duplicates = frozenset(stored)
        return Appended(tuple(stored[event.event_id] for event in events), duplicates)


class SqliteRejectionStore:
    """`RejectionStore` beside the events."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def add(self, rejections: Iterable[Rejection]) -> None:
        """See `RejectionStore.add`."""
        rows = [
            (r.source, r.key, r.rejected_at, r.code, orjson.dumps(r.problems).decode(), r.payload, _fingerprint(r))
            for r in rejections
        ]
        self._database.write(
            lambda connection: connection.executemany(
                "INSERT OR IGNORE INTO rejections (source, key, rejected_at, code, problems, payload, fingerprint) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        )

    def open(self, *, source: str | None = None, after: int = 0, limit: int = 100) -> Sequence[Rejection]:
        """See `RejectionStore.open`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT number, source, key, rejected_at, code, problems, payload FROM rejections "
                "WHERE payload IS NOT NULL AND number > ? AND source = ifnull(?, source) ORDER BY number LIMIT ?",
                (after, source, limit),
            ).fetchall()
        return [_to_rejection(row) for row in rows]

    def get(self, number: int) -> Rejection:
        """See `RejectionStore.get`."""
        found = self.open(after=number - 1, limit=1)
        if not found or found[0].number != number:
            raise RejectionNotFoundError(number)
        return found[0]

    def resolve(self, number: int) -> None:
        """See `RejectionStore.resolve`."""
        done = self._database.write(
            lambda connection: (
                connection.execute(
                    "UPDATE rejections SET payload = NULL, fingerprint = NULL WHERE number = ? AND payload IS NOT NULL",
                    (number,),
                ).rowcount
            )
        )
        if not done:
            raise RejectionNotFoundError(number)


class SqliteCheckpointStore:
    """`CheckpointStore` in any SQLite file whose migrations include `CHECKPOINTS_TABLE`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def load(self, name: str) -> str | None:
        """See `CheckpointStore.load`."""
        with self._database.read() as connection:
            row = connection.execute("SELECT cursor FROM checkpoints WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def save(self, name: str, cursor: str) -> None:
        """See `CheckpointStore.save`."""
        self._database.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (name, cursor))
        )


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


def _to_row(event: RecordedEvent) -> tuple[Any, ...]:
    return (*event[:_DATA], canonical_json(event.data).decode(), event.hash)


def _from_row(row: Sequence[Any]) -> RecordedEvent:
    return RecordedEvent._make((*row[:_DATA], orjson.loads(row[_DATA]), row[_DATA + 1]))


def _to_rejection(row: Sequence[Any]) -> Rejection:
    number, source, key, rejected_at, code, problems, payload = row
    return Rejection(number, source, key, rejected_at, code, tuple(orjson.loads(problems)), bytes(payload))


def _fingerprint(rejection: Rejection) -> str:
    return sha256(orjson.dumps([rejection.source, rejection.key, sha256(rejection.payload).hexdigest()])).hexdigest()
