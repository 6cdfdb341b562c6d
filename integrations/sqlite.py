"""States, pauses and log of the deliveries on SQLite, in the file `deliveries.db`."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from eventstore import SqliteDatabase

from .errors import InvalidLogCursorError
from .ports import HeldPause, HeldState, LogEntry, LogPage, Pause
from .sqlite_queue import QUEUE_TABLES
from .sqlite_topic import TOPIC_TABLES
from .state import DeliveryState, raised

_MIGRATIONS = [
    [
        """
        CREATE TABLE deliveries (
            client_id TEXT NOT NULL,
            integration TEXT NOT NULL,
            wanted INTEGER NOT NULL,
            delivered INTEGER NOT NULL,
            body_hash TEXT NOT NULL,
            remote TEXT,
            uncertain INTEGER NOT NULL,
            resends INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            failed_code TEXT,
            failed_hash TEXT,
            due_at TEXT,
            claimed_until TEXT,
            entries INTEGER NOT NULL,
            tag INTEGER NOT NULL,
            PRIMARY KEY (client_id, integration)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX due_deliveries ON deliveries (integration, due_at) WHERE due_at IS NOT NULL",
        "CREATE INDEX failed_deliveries ON deliveries (integration, client_id) WHERE failed_code IS NOT NULL",
        """
        CREATE TABLE delivery_log (
            position INTEGER PRIMARY KEY,
            client_id TEXT NOT NULL,
            integration TEXT NOT NULL,
            number INTEGER NOT NULL,
            at TEXT NOT NULL,
            seq INTEGER NOT NULL,
            action TEXT NOT NULL,
            verdict TEXT NOT NULL,
            code TEXT NOT NULL,
            status INTEGER,
            seconds REAL NOT NULL,
            body_hash TEXT NOT NULL,
            request TEXT NOT NULL,
            body TEXT NOT NULL,
            answer TEXT NOT NULL,
            UNIQUE (client_id, integration, number)
        )
        """,
        "CREATE INDEX delivery_log_by_client ON delivery_log (client_id, position)",
        "CREATE TRIGGER log_never_changes BEFORE UPDATE ON delivery_log BEGIN SELECT RAISE(ABORT, 'append only'); END",
        "CREATE TRIGGER log_never_vanishes BEFORE DELETE ON delivery_log BEGIN SELECT RAISE(ABORT, 'append only'); END",
        """
        CREATE TABLE integrations (
            integration TEXT PRIMARY KEY,
            paused_until TEXT,
            reason TEXT,
            tag INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        *TOPIC_TABLES,
    ],
    QUEUE_TABLES,
]

_STATE = ", ".join(DeliveryState._fields)
_STATE_MARKS = ", ".join("?" * len(DeliveryState._fields))
_ASSIGNED = ", ".join(f"{field} = ?" for field in DeliveryState._fields[2:])
_ENTRY = ", ".join(LogEntry._fields)
_ENTRY_MARKS = ", ".join("?" * len(LogEntry._fields))
_MAX_POSITION = 2**62


def open_deliveries(directory: Path) -> SqliteDatabase:
    """The file `deliveries.db` of a data directory: deliveries, topic and queues.

    Raises:
        StoreVersionError: a newer version of this software wrote it.
        StoreUnavailableError: it cannot be opened.
    """
    return SqliteDatabase(directory / "deliveries.db", _MIGRATIONS)


class SqliteDeliveryStore:
    """`DeliveryStore`, `DeliveryLog` and `PauseStore` in one SQLite file.

    Args:
        database: from `open_deliveries`.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        """See `DeliveryStore.raise_wanted`."""
        self._database.write(lambda connection: _raise(connection, client_id, wanted, at))

    def load(self, client_id: str, integration: str) -> HeldState | None:
        """See `DeliveryStore.load`."""
        with self._database.read() as connection:
            return _load(connection, client_id, integration)

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        """See `DeliveryStore.save`."""

        def work(connection: sqlite3.Connection) -> str | None:
            new_tag = _save(connection, state, tag)
            if new_tag is not None and entry is not None:
                connection.execute(f"INSERT INTO delivery_log ({_ENTRY}) VALUES ({_ENTRY_MARKS})", entry)
            return new_tag

        return self._database.write(work)

    def due(self, integration: str, *, before: str | None = None, limit: int = 100) -> Sequence[DeliveryState]:
        """See `DeliveryStore.due`."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_STATE} FROM deliveries WHERE integration = ? AND due_at IS NOT NULL "
                "AND due_at <= ifnull(?, 'z') ORDER BY due_at LIMIT ?",
                (integration, before, limit),
            ).fetchall()
        return [_state(row) for row in rows]

    def failed(self, integration: str, *, after: str = "", limit: int = 100) -> Sequence[DeliveryState]:
        """See `DeliveryStore.failed`."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_STATE} FROM deliveries WHERE integration = ? AND failed_code IS NOT NULL "
                "AND client_id > ? ORDER BY client_id LIMIT ?",
                (integration, after, limit),
            ).fetchall()
        return [_state(row) for row in rows]

    def of_client(self, client_id: str) -> Sequence[DeliveryState]:
        """See `DeliveryStore.of_client`."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_STATE} FROM deliveries WHERE client_id = ? ORDER BY integration", (client_id,)
            ).fetchall()
        return [_state(row) for row in rows]

    def wanted(self, client_ids: Sequence[str]) -> Mapping[str, int]:
        """See `DeliveryStore.wanted`: one query, however many clients."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT client_id, max(wanted) FROM deliveries "
                "WHERE client_id IN (SELECT value FROM json_each(?)) GROUP BY client_id",
                (orjson.dumps(client_ids).decode(),),
            ).fetchall()
        return dict(rows)

    def entries(
        self, client_id: str, *, integration: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> LogPage:
        """See `DeliveryLog.entries`."""
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):  # noqa: PLR2004 - fits 64 bits
            raise InvalidLogCursorError
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_ENTRY}, position FROM delivery_log WHERE client_id = ? AND position < ? "
                "AND integration = ifnull(?, integration) ORDER BY position DESC LIMIT ?",
                (client_id, int(cursor or _MAX_POSITION), integration, limit + 1),
            ).fetchall()
        page = rows[:limit]
        more = len(rows) > limit
        return LogPage([LogEntry._make(row[:-1]) for row in page], str(page[-1][-1]) if more else None)

    def load_pause(self, integration: str) -> HeldPause:
        """See `PauseStore.load_pause`."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT paused_until, reason, tag FROM integrations WHERE integration = ?", (integration,)
            ).fetchone()
        if row is None:
            return HeldPause(Pause(integration), None)
        return HeldPause(Pause(integration, row[0], row[1]), str(row[2]))

    def save_pause(self, pause: Pause, tag: str | None) -> str | None:
        """See `PauseStore.save_pause`."""

        def work(connection: sqlite3.Connection) -> str | None:
            if tag is None:
                statement = "INSERT OR IGNORE INTO integrations VALUES (?, ?, ?, 1)"
                return _new_tag(connection.execute(statement, pause), 1)
            return _new_tag(
                connection.execute(
                    "UPDATE integrations SET paused_until = ?, reason = ?, tag = tag + 1 "
                    "WHERE integration = ? AND tag = ?",
                    (pause.until, pause.reason, pause.integration, int(tag)),
                ),
                int(tag) + 1,
            )

        return self._database.write(work)


def _raise(connection: sqlite3.Connection, client_id: str, wanted: Mapping[str, int], at: str) -> None:
    for integration, seq in wanted.items():
        held = _load(connection, client_id, integration)
        state, tag = (DeliveryState(client_id, integration), None) if held is None else held
        risen = raised(state, seq, at)
        if risen is not state:
            _save(connection, risen, tag)  # cannot be lost: this transaction is the only writer


def _load(connection: sqlite3.Connection, client_id: str, integration: str) -> HeldState | None:
    row = connection.execute(
        f"SELECT {_STATE}, tag FROM deliveries WHERE client_id = ? AND integration = ?", (client_id, integration)
    ).fetchone()
    return None if row is None else HeldState(_state(row[:-1]), str(row[-1]))


def _save(connection: sqlite3.Connection, state: DeliveryState, tag: str | None) -> str | None:
    if tag is None:
        return _new_tag(
            connection.execute(f"INSERT OR IGNORE INTO deliveries ({_STATE}, tag) VALUES ({_STATE_MARKS}, 1)", state),
            1,
        )
    return _new_tag(
        connection.execute(
            f"UPDATE deliveries SET {_ASSIGNED}, tag = tag + 1 WHERE client_id = ? AND integration = ? AND tag = ?",
            (*state[2:], state.client_id, state.integration, int(tag)),
        ),
        int(tag) + 1,
    )


def _new_tag(cursor: sqlite3.Cursor, tag: int) -> str | None:
    return str(tag) if cursor.rowcount else None


def _state(row: Sequence[Any]) -> DeliveryState:
    state = DeliveryState._make(row)
    return state._replace(uncertain=bool(state.uncertain))
