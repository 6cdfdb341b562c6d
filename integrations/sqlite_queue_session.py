"""A session of a queue on SQLite, as its holder uses it, and what concerns a single message."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson

from eventstore import SqliteDatabase, StoreUnavailableError, utc_text

from .errors import QueueUnavailableError, SessionLockLostError
from .queues import QueuedMessage, QueueMessage

MESSAGE = "position, message_id, session_id, correlation_id, properties, body, enqueued_at, delivery_count"
"""Columns of which `queued_message` makes a message."""
LOCK_TIME = timedelta(minutes=1)
"""How long a lock lasts."""
MAX_DELIVERIES = 10
"""A message that was received so often without success is a dead letter."""


class SqliteQueueSession:
    """`QueueSession` under a lock in the database."""

    def __init__(
        self, database: SqliteDatabase, queue: str, session_id: str, lock: str, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._queue, self._session_id, self._held_by = queue, session_id, lock
        self._clock = clock

    def receive(self) -> QueuedMessage | None:
        """See `QueueSession.receive`: writes nothing, the lock on the session is enough."""
        with translated(), self._database.read() as connection:
            self._check(connection)
            row = connection.execute(
                f"SELECT {MESSAGE} FROM queue_messages WHERE queue = ? AND session_id = ? AND dead = 0 "
                "ORDER BY position LIMIT 1",
                (self._queue, self._session_id),
            ).fetchone()
        return None if row is None else queued_message(row)

    def complete(self, queued: QueuedMessage) -> None:
        """See `QueueSession.complete`."""
        self._write(lambda c: c.execute("DELETE FROM queue_messages WHERE position = ? AND dead = 0", (queued.lock,)))

    def abandon(self, queued: QueuedMessage) -> None:
        """See `QueueSession.abandon`."""
        self._write(lambda connection: hand_back(connection, int(queued.lock)))

    def renew(self) -> None:
        """See `QueueSession.renew`."""
        until = utc_text(self._clock() + LOCK_TIME)
        self._write(
            lambda connection: connection.execute(
                "UPDATE queue_sessions SET locked_until = ? WHERE lock = ?", (until, self._held_by)
            )
        )

    def close(self) -> None:
        """See `QueueSession.close`.

        Raises:
            QueueUnavailableError: the database is out of reach; the lock ends by itself.
        """
        with translated():
            self._database.write(lambda c: c.execute("DELETE FROM queue_sessions WHERE lock = ?", (self._held_by,)))

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def guarded(connection: sqlite3.Connection) -> None:
            self._check(connection)
            work(connection)

        with translated():
            self._database.write(guarded)

    def _check(self, connection: sqlite3.Connection) -> None:
        held = connection.execute(
            "SELECT 1 FROM queue_sessions WHERE queue = ? AND session_id = ? AND lock = ? AND locked_until > ?",
            (self._queue, self._session_id, self._held_by, utc_text(self._clock())),
        ).fetchone()
        if held is None:
            raise SessionLockLostError(self._queue)


def hand_back(connection: sqlite3.Connection, position: int) -> None:
    """Count one more receipt of a message; the last one that is allowed makes it a dead letter."""
    connection.execute(
        "UPDATE queue_messages SET delivery_count = delivery_count + 1, dead = delivery_count + 1 >= ? "
        "WHERE position = ? AND dead = 0",
        (MAX_DELIVERIES, position),
    )


def queued_message(row: Sequence[Any]) -> QueuedMessage:
    """The message in a row of the columns `MESSAGE`."""
    position, message_id, session_id, correlation_id, properties, body, enqueued_at, count = row
    message = QueueMessage(message_id, session_id, bytes(body), orjson.loads(properties), correlation_id)
    return QueuedMessage(message, datetime.fromisoformat(enqueued_at), count + 1, str(position))


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the database raises in the words of this package.

    Raises:
        QueueUnavailableError: the database is out of reach.
    """
    try:
        yield
    except StoreUnavailableError as error:
        raise QueueUnavailableError(error.problem, retry_after=error.retry_after) from error
