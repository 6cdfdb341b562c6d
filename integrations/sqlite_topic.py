"""A topic with filtered subscriptions on SQLite, for one machine: what Service Bus is in the cloud."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Condition
from time import monotonic
from typing import Any
from uuid import uuid4

import orjson

from eventstore import SqliteDatabase, StoreUnavailableError, utc_text

from .errors import MessageLockLostError, TopicUnavailableError, UnknownSubscriptionError
from .messages import TopicMessage
from .ports import ReceivedMessage

TOPIC_TABLES = [
    "CREATE TABLE subscriptions (name TEXT PRIMARY KEY, sub_schemas TEXT NOT NULL) WITHOUT ROWID",
    # What arrived within the window of duplicate detection.
    "CREATE TABLE arrivals (message_id TEXT PRIMARY KEY, arrived_at TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX arrivals_by_age ON arrivals (arrived_at)",
    """
    CREATE TABLE messages (
        position INTEGER PRIMARY KEY,
        subscription TEXT NOT NULL,
        message_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        correlation_id TEXT,
        properties TEXT NOT NULL,
        body BLOB NOT NULL,
        delivery_count INTEGER NOT NULL DEFAULT 0,
        locked_until TEXT NOT NULL DEFAULT '',
        lock TEXT
    )
    """,
    "CREATE INDEX messages_to_receive ON messages (subscription, position)",
    "CREATE UNIQUE INDEX messages_by_lock ON messages (lock) WHERE lock IS NOT NULL",
]

_MESSAGE = "message_id, session_id, correlation_id, properties, body"
_WINDOW = timedelta(minutes=10)
_LOCK = timedelta(minutes=1)
_MAX_DELIVERIES = 10
_POLL_SECONDS = 0.25  # how late a message from another process is noticed


class SqliteTopic:
    """`Topic` and `Subscriptions` in the file of `open_deliveries`.

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

    def subscribe(self, subscription: str, sub_schemas: Iterable[str]) -> None:
        """Create a subscription, or change what it gets from now on: messages that change any of the sub-schemas.

        Raises:
            TopicUnavailableError: the database is out of reach.
        """
        row = (subscription, orjson.dumps(sorted(set(sub_schemas))).decode())
        with _translated():
            with self._database.read() as connection:
                known = connection.execute("SELECT * FROM subscriptions WHERE name = ?", (subscription,)).fetchone()
            if known != row:
                self._database.write(lambda c: c.execute("INSERT OR REPLACE INTO subscriptions VALUES (?, ?)", row))

    def send(self, messages: Sequence[TopicMessage]) -> None:
        """See `Topic.send`: one commit, shared with whoever sends at the same time."""
        now = self._clock()
        with _translated():
            self._database.write(lambda connection: _send(connection, messages, now))
        with self._arrived:
            self._sent += 1
            self._arrived.notify_all()

    def receive(self, subscription: str, *, limit: int, wait: float = 0.0) -> Sequence[ReceivedMessage]:
        """See `Subscriptions.receive`."""
        give_up = monotonic() + wait
        while True:
            seen = self._sent
            received = self._receive(subscription, limit)
            left = give_up - monotonic()
            if received or left <= 0:
                return received
            with self._arrived:
                self._arrived.wait_for(lambda: self._sent != seen, min(left, _POLL_SECONDS))  # noqa: B023 - used at once

    def complete(self, received: ReceivedMessage) -> None:
        """See `Subscriptions.complete`."""
        self._settle("DELETE FROM messages WHERE lock = ? AND locked_until > ?", received)

    def abandon(self, received: ReceivedMessage) -> None:
        """See `Subscriptions.abandon`."""
        self._settle("UPDATE messages SET locked_until = '' WHERE lock = ? AND locked_until > ?", received)

    def dead_letters(self, subscription: str, *, limit: int = 100) -> Sequence[TopicMessage]:
        """See `Subscriptions.dead_letters`."""
        with _translated(), self._database.read() as connection:
            _check_subscription(connection, subscription)
            rows = connection.execute(
                f"SELECT {_MESSAGE} FROM messages WHERE subscription = ? AND delivery_count >= ? "
                "AND locked_until <= ? ORDER BY position LIMIT ?",
                (subscription, _MAX_DELIVERIES, utc_text(self._clock()), limit),
            ).fetchall()
        return [_message(row) for row in rows]

    def _receive(self, subscription: str, limit: int) -> list[ReceivedMessage]:
        now = self._clock()
        with _translated():
            with self._database.read() as connection:
                _check_subscription(connection, subscription)
                if not _receivable(connection, subscription, now, 1):
                    return []  # without the commit that locking takes
            return self._database.write(lambda writer: self._lock(writer, subscription, limit, now))

    def _lock(
        self, connection: sqlite3.Connection, subscription: str, limit: int, now: datetime
    ) -> list[ReceivedMessage]:
        received = []
        until = utc_text(now + _LOCK)
        for position, count, *message in _receivable(connection, subscription, now, limit):
            lock = self._new_lock()
            connection.execute(
                "UPDATE messages SET delivery_count = ?, lock = ?, locked_until = ? WHERE position = ?",
                (count + 1, lock, until, position),
            )
            received.append(ReceivedMessage(subscription, lock, count + 1, _message(message)))
        return received

    def _settle(self, statement: str, received: ReceivedMessage) -> None:
        values = (received.lock, utc_text(self._clock()))
        with _translated():
            settled = self._database.write(lambda connection: connection.execute(statement, values).rowcount)
        if not settled:
            raise MessageLockLostError(received.subscription)


def _send(connection: sqlite3.Connection, messages: Sequence[TopicMessage], now: datetime) -> None:
    connection.execute("DELETE FROM arrivals WHERE arrived_at <= ?", (utc_text(now - _WINDOW),))
    filters = [
        (name, frozenset(orjson.loads(wanted)))
        for name, wanted in connection.execute("SELECT name, sub_schemas FROM subscriptions ORDER BY name")
    ]
    for message in messages:
        arrival = (message.message_id, utc_text(now))
        if not connection.execute("INSERT OR IGNORE INTO arrivals VALUES (?, ?)", arrival).rowcount:
            continue
        properties = orjson.dumps(dict(message.properties)).decode()
        row = (message.message_id, message.session_id, message.correlation_id, properties, message.body)
        connection.executemany(
            f"INSERT INTO messages (subscription, {_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?)",
            [(name, *row) for name, wanted in filters if any(message.properties.get(each) for each in wanted)],
        )


def _receivable(connection: sqlite3.Connection, subscription: str, now: datetime, limit: int) -> list[Any]:
    return connection.execute(
        f"SELECT position, delivery_count, {_MESSAGE} FROM messages WHERE subscription = ? AND locked_until <= ? "
        "AND delivery_count < ? ORDER BY position LIMIT ?",
        (subscription, utc_text(now), _MAX_DELIVERIES, limit),
    ).fetchall()


def _check_subscription(connection: sqlite3.Connection, subscription: str) -> None:
    if connection.execute("SELECT 1 FROM subscriptions WHERE name = ?", (subscription,)).fetchone() is None:
        raise UnknownSubscriptionError(subscription)


def _message(row: Sequence[Any]) -> TopicMessage:
    message_id, session_id, correlation_id, properties, body = row
    return TopicMessage(message_id, session_id, correlation_id, orjson.loads(properties), bytes(body))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as error:
        raise TopicUnavailableError(error.problem, retry_after=error.retry_after) from error
