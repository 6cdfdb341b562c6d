"""Session queues on SQLite, for one machine: what Service Bus queues with sessions are in the cloud."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from threading import Condition
from time import monotonic
from typing import Any
from uuid import uuid4

import orjson

from eventstore import SqliteDatabase, utc_text

from .queues import QueuedMessage, QueueMessage
from .sqlite_queue_session import LOCK_TIME, MESSAGE, SqliteQueueSession, hand_back, queued_message, translated

QUEUE_TABLES = [
    # A dead letter keeps its place. `locked_until` is only for dead letters, which have no session to lock.
    """
    CREATE TABLE queue_messages (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        session_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        correlation_id TEXT,
        properties TEXT NOT NULL,
        body BLOB NOT NULL,
        enqueued_at TEXT NOT NULL,
        delivery_count INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        locked_until TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX queue_messages_in_order ON queue_messages (queue, dead, position)",
    "CREATE INDEX queue_messages_by_session ON queue_messages (queue, session_id, dead, position)",
    # One row for each session that somebody holds, or died holding.
    """
    CREATE TABLE queue_sessions (
        queue TEXT NOT NULL,
        session_id TEXT NOT NULL,
        lock TEXT NOT NULL,
        locked_until TEXT NOT NULL,
        PRIMARY KEY (queue, session_id)
    ) WITHOUT ROWID
    """,
    # What arrived within the window of duplicate detection.
    """
    CREATE TABLE queue_arrivals (
        queue TEXT NOT NULL,
        message_id TEXT NOT NULL,
        arrived_at TEXT NOT NULL,
        PRIMARY KEY (queue, message_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX queue_arrivals_by_age ON queue_arrivals (arrived_at)",
]

_WINDOW = timedelta(minutes=10)
_POLL_SECONDS = 0.25  # how late a message from another process is noticed
_DRAIN_PAGE = 100


class SqliteSessionQueues:
    """`SessionQueues` in the file of `open_deliveries`; a queue is there as soon as something is sent to it.

    Window, lock and number of deliveries are those of Service Bus by default: ten minutes, one minute, ten.

    Args:
        database: from `open_deliveries`.
        clock: present time.
        new_lock: makes the name of a lock.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_lock: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._database = database
        self._clock, self._new_lock = clock, new_lock
        self._arrived = Condition()
        self._sent = 0

    def send(self, queue: str, messages: Sequence[QueueMessage]) -> None:
        """See `SessionQueues.send`: one commit, shared with whoever sends at the same time."""
        now = self._clock()
        with translated():
            self._database.write(lambda connection: _send(connection, queue, messages, now))
        with self._arrived:
            self._sent += 1
            self._arrived.notify_all()

    def next_session(self, queue: str, *, wait: float) -> SqliteQueueSession | None:
        """See `SessionQueues.next_session`."""
        give_up = monotonic() + wait
        while True:
            seen = self._sent
            session = self._next(queue)
            left = give_up - monotonic()
            if session is not None or left <= 0:
                return session
            with self._arrived:
                self._arrived.wait_for(lambda: self._sent != seen, min(left, _POLL_SECONDS))  # noqa: B023 - used at once

    def drain(self, queue: str, take: Callable[[QueuedMessage], bool]) -> None:
        """See `SessionQueues.drain`."""
        after = 0
        while page := self._lock_dead(queue, after):
            taken = [queued.lock for queued in page if take(queued)]
            if taken:
                with translated():
                    self._database.write(
                        lambda connection, taken=taken: connection.executemany(  # type: ignore[misc]
                            "DELETE FROM queue_messages WHERE position = ?", [(position,) for position in taken]
                        )
                    )
            after = int(page[-1].lock)

    def close(self) -> None:
        """See `SessionQueues.close`; nothing to do, the database is closed by whoever opened it."""

    def _next(self, queue: str) -> SqliteQueueSession | None:
        now = self._clock()
        with translated():
            with self._database.read() as connection:
                if _free_session(connection, queue, now) is None:
                    return None  # without the commit that locking takes
            return self._database.write(lambda writer: self._lock(writer, queue, now))

    def _lock(self, connection: sqlite3.Connection, queue: str, now: datetime) -> SqliteQueueSession | None:
        while (session_id := _free_session(connection, queue, now)) is not None:
            # A row that is still there is of a holder who died: the message it had was received once more.
            died = connection.execute(
                "DELETE FROM queue_sessions WHERE queue = ? AND session_id = ?", (queue, session_id)
            ).rowcount
            if died and (position := _first(connection, queue, session_id)) is not None:
                hand_back(connection, position)
            if _first(connection, queue, session_id) is not None:
                lock = self._new_lock()
                row = (queue, session_id, lock, utc_text(now + LOCK_TIME))
                connection.execute("INSERT INTO queue_sessions VALUES (?, ?, ?, ?)", row)
                return SqliteQueueSession(self._database, queue, session_id, lock, self._clock)
        return None

    def _lock_dead(self, queue: str, after: int) -> list[QueuedMessage]:
        now = self._clock()
        where = (queue, after, utc_text(now), _DRAIN_PAGE)
        find = (
            f"SELECT {MESSAGE} FROM queue_messages WHERE queue = ? AND dead = 1 AND position > ? "
            "AND locked_until <= ? ORDER BY position LIMIT ?"
        )

        def lock(connection: sqlite3.Connection) -> list[Any]:
            rows = connection.execute(find, where).fetchall()
            until = utc_text(now + LOCK_TIME)
            connection.executemany(
                "UPDATE queue_messages SET locked_until = ? WHERE position = ?", [(until, row[0]) for row in rows]
            )
            return rows

        with translated():
            with self._database.read() as connection:
                if connection.execute(find, where).fetchone() is None:
                    return []
            return [queued_message(row) for row in self._database.write(lock)]


def _send(connection: sqlite3.Connection, queue: str, messages: Sequence[QueueMessage], now: datetime) -> None:
    connection.execute("DELETE FROM queue_arrivals WHERE arrived_at <= ?", (utc_text(now - _WINDOW),))
    at = utc_text(now)
    for message in messages:
        arrival = (queue, message.message_id, at)
        if connection.execute("INSERT OR IGNORE INTO queue_arrivals VALUES (?, ?, ?)", arrival).rowcount:
            properties = orjson.dumps(dict(message.properties)).decode()
            connection.execute(
                "INSERT INTO queue_messages (queue, message_id, session_id, correlation_id, properties, body, "
                "enqueued_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    queue,
                    message.message_id,
                    message.session_id,
                    message.correlation_id,
                    properties,
                    message.body,
                    at,
                ),
            )


def _free_session(connection: sqlite3.Connection, queue: str, now: datetime) -> str | None:
    row = connection.execute(
        "SELECT session_id FROM queue_messages WHERE queue = ? AND dead = 0 AND session_id NOT IN "
        "(SELECT session_id FROM queue_sessions WHERE queue = ? AND locked_until > ?) ORDER BY position LIMIT 1",
        (queue, queue, utc_text(now)),
    ).fetchone()
    return None if row is None else str(row[0])


def _first(connection: sqlite3.Connection, queue: str, session_id: str) -> int | None:
    row = connection.execute(
        "SELECT position FROM queue_messages WHERE queue = ? AND session_id = ? AND dead = 0 ORDER BY position LIMIT 1",
        (queue, session_id),
    ).fetchone()
    return None if row is None else int(row[0])
