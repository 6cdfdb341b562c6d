"""What goes with the events on SQLite: durable cursors, and deliveries that could not become events."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import orjson

from .errors import RejectionNotFoundError
from .ports import Rejection
from .sqlite_database import SqliteDatabase, sqlite_integer

CHECKPOINTS_TABLE = "CREATE TABLE checkpoints (name TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID"

# Numbers are never used twice, so that a number somebody wrote down names one rejection for good.
REJECTIONS_TABLE = """
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
"""
OPEN_REJECTIONS_INDEX = "CREATE INDEX open_rejections ON rejections (number) WHERE payload IS NOT NULL"


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
                "INSERT INTO rejections (source, key, rejected_at, code, problems, payload, fingerprint) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO NOTHING",
                rows,
            )
        )

    def open(self, *, source: str | None = None, after: int = 0, limit: int = 100) -> Sequence[Rejection]:
        """See `RejectionStore.open`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT number, source, key, rejected_at, code, problems, payload FROM rejections "
                "WHERE payload IS NOT NULL AND number > ? AND source = ifnull(?, source) ORDER BY number LIMIT ?",
                (sqlite_integer(after), source, limit),
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
                    (sqlite_integer(number),),
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

    def create(self, name: str, cursor: str) -> str:
        """See `CheckpointStore.create`."""

        def create(connection: Any) -> str:
            connection.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?)", (name, cursor))
            (stored,) = connection.execute("SELECT cursor FROM checkpoints WHERE name = ?", (name,)).fetchone()
            return str(stored)

        return self._database.write(create)


def _to_rejection(row: Sequence[Any]) -> Rejection:
    number, source, key, rejected_at, code, problems, payload = row
    return Rejection(number, source, key, rejected_at, code, tuple(orjson.loads(problems)), bytes(payload))


def _fingerprint(rejection: Rejection) -> str:
    return sha256(orjson.dumps([rejection.source, rejection.key, sha256(rejection.payload).hexdigest()])).hexdigest()
