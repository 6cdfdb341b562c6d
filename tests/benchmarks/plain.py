"""What the event store is compared with: plain sqlite3, the same columns, the same indexes, the same durability."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventstore import EventData, utc_text

_COLUMNS = 12


class PlainTable:
    """A table like that of the event store, without anything around it."""

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(directory / "plain.db", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            (
                "CREATE TABLE events (position INTEGER PRIMARY KEY, client_id TEXT NOT NULL, version INTEGER NOT NULL, "
                "event_id TEXT NOT NULL, event_type TEXT NOT NULL, schema_version INTEGER NOT NULL, source TEXT NOT NULL, "
                "occurred_at TEXT NOT NULL, recorded_at TEXT NOT NULL, correlation_id TEXT, traceparent TEXT, "
                "data TEXT NOT NULL, hash TEXT NOT NULL)"
            ),
            "CREATE UNIQUE INDEX by_version ON events (client_id, version)",
            "CREATE UNIQUE INDEX by_id ON events (client_id, event_id)",
        ):
            self._connection.execute(statement)

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO events (client_id, version, event_id, event_type, schema_version, source, occurred_at, "
            f"recorded_at, correlation_id, traceparent, data, hash) VALUES ({', '.join('?' * _COLUMNS)})",
            rows,
        )
        self._connection.execute("COMMIT")


def row(client_id: str, version: int, event: EventData) -> tuple[Any, ...]:
    """The row of an event, made before the clock starts."""
    when = utc_text(event.occurred_at)
    return (
        client_id,
        version,
        event.event_id,
        event.event_type,
        event.schema_version,
        event.source,
        when,
        when,
        None,
        None,
        event.json.decode(),
        "0" * 64,
    )
