"""Records, audit, announcements and outbox of one projection in the SQLite file `projections.db`."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from eventstore import CHECKPOINTS_TABLE, SqliteDatabase, utc_text

from .documents import (
    Document,
    announced_document,
    announced_from,
    audit_document,
    audit_from,
    outbox_document,
    outbox_from,
    record_document,
    record_from,
)
from .ports import AuditFilter, Commit, Loaded, Served, newest_of
from .record import AuditEntry, OutboxEntry, Record
from .rules import Projection

_MIGRATIONS = [
    [
        """
        CREATE TABLE records (
            generation TEXT NOT NULL,
            client_id TEXT NOT NULL,
            tag INTEGER NOT NULL,
            parked INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (generation, client_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX parked_records ON records (generation, client_id) WHERE parked",
        """
        CREATE TABLE audit (
            generation TEXT NOT NULL,
            client_id TEXT NOT NULL,
            version INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (generation, client_id, version)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE announced (
            projection TEXT NOT NULL,
            client_id TEXT NOT NULL,
            tag INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (projection, client_id)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE outbox (
            projection TEXT NOT NULL,
            client_id TEXT NOT NULL,
            seq INTEGER NOT NULL,
            written_at TEXT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (projection, client_id, seq)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX outbox_by_age ON outbox (projection, written_at)",
        CHECKPOINTS_TABLE,
    ]
]

_FILTERS = """
    ifnull(:event_type, body ->> '$.event_type') = body ->> '$.event_type'
    AND ifnull(:source, body ->> '$.source') = body ->> '$.source'
    AND ifnull(:since, '') <= body ->> '$.recorded_at'
    AND ifnull(:until, 'z') > body ->> '$.recorded_at'
    AND ((:sub_schema IS NULL AND :field IS NULL) OR EXISTS (
        SELECT 1 FROM json_each(body, '$.changes')
        WHERE ifnull(:sub_schema, value ->> '$.sub_schema') = value ->> '$.sub_schema'
          AND ifnull(:field, value ->> '$.field') = value ->> '$.field'))
"""
# A client that is folded again mostly comes to the same entries; those are not written again.
_UPSERT_AUDIT = """
    INSERT INTO audit VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET body = excluded.body WHERE body <> excluded.body
"""


def open_projections(directory: Path | None) -> SqliteDatabase:
    """The file `projections.db` of a data directory: projections and the projector's checkpoints.

    Args:
        directory: created if it does not exist; None keeps everything in memory, for one thread.

    Raises:
        StoreVersionError: a newer version of this software wrote it.
        StoreUnavailableError: it cannot be opened.
    """
    return SqliteDatabase(directory and directory / "projections.db", _MIGRATIONS)


class SqliteProjectionStore:
    """`ProjectionStore`, `AuditLog` and `Outbox` of one projection.

    Args:
        database: from `open_projections`.
        projection: its name and version decide where records are kept.
        clock: tells how long an outbox entry waits.
    """

    group = 256

    def __init__(
        self,
        database: SqliteDatabase,
        projection: Projection[Any],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._projection = projection.name
        self._generation = projection.generation
        self._generations = projection.generations
        self._generation_at = {version: name for name, version in self._generations.items()}
        self._clock = clock

    def load(self, client_ids: Sequence[str]) -> Mapping[str, Loaded]:
        """See `ProjectionStore.load`: two queries, however many clients."""
        with self._database.read() as connection:
            return self._load(connection, client_ids)

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        """See `ProjectionStore.commit`: one transaction for all; none is refused."""
        return self._database.write(lambda connection: self._commit(connection, commits))

    def newest(self, client_id: str) -> Served | None:
        """See `ProjectionStore.newest`: a look by key for each generation there can be."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT generation, body FROM records "
                "WHERE client_id = ? AND generation IN (SELECT value FROM json_each(?))",
                (client_id, orjson.dumps(list(self._generations)).decode()),
            ).fetchall()
        return newest_of((self._generations[name], record_from(orjson.loads(body))) for name, body in rows)

    def parked(self, *, after: str = "", limit: int = 100) -> Sequence[Record]:
        """See `ProjectionStore.parked`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM records WHERE generation = ? AND parked AND client_id > ? ORDER BY client_id LIMIT ?",
                (self._generation, after, limit),
            ).fetchall()
        return [record_from(orjson.loads(body)) for (body,) in rows]

    def client_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `ProjectionStore.client_ids`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT client_id FROM records WHERE generation = ? AND client_id > ? ORDER BY client_id LIMIT ?",
                (self._generation, after, limit),
            ).fetchall()
        return [client_id for (client_id,) in rows]

    def entries(
        self,
        client_id: str,
        where: AuditFilter,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int = 100,
        projection_version: int | None = None,
    ) -> Sequence[AuditEntry]:
        """See `AuditLog.entries`."""
        parameters = {
            "generation": self._generation if projection_version is None else self._generation_at[projection_version],
            "client_id": client_id,
            "after": after,
            "last": 2**62 if until is None else until,
            "limit": limit,
            "event_type": where.event_type,
            "source": where.source,
            "since": where.since,
            "until": where.until,
            "sub_schema": where.sub_schema,
            "field": where.field,
        }
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM audit WHERE generation = :generation AND client_id = :client_id "
                f"AND version > :after AND version <= :last AND {_FILTERS} ORDER BY version LIMIT :limit",
                parameters,
            ).fetchall()
        return [audit_from(orjson.loads(body)) for (body,) in rows]

    def pending(self, client_id: str) -> Sequence[OutboxEntry]:
        """See `Outbox.pending`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM outbox WHERE projection = ? AND client_id = ? ORDER BY seq",
                (self._projection, client_id),
            ).fetchall()
        return [outbox_from(orjson.loads(body)) for (body,) in rows]

    def waiting(self, *, older_than: str | None = None, limit: int = 1000) -> Sequence[str]:
        """See `Outbox.waiting`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT client_id FROM outbox WHERE projection = ? AND written_at < ifnull(?, 'z') "
                "GROUP BY client_id ORDER BY min(written_at) LIMIT ?",
                (self._projection, older_than, limit),
            ).fetchall()
        return [client_id for (client_id,) in rows]

    def delete(self, entries: Iterable[OutboxEntry]) -> None:
        """See `Outbox.delete`."""
        rows = [(self._projection, entry.client_id, entry.seq) for entry in entries]
        self._database.write(
            lambda connection: connection.executemany(
                "DELETE FROM outbox WHERE projection = ? AND client_id = ? AND seq = ?", rows
            )
        )

    def _load(self, connection: sqlite3.Connection, client_ids: Sequence[str]) -> dict[str, Loaded]:
        wanted = orjson.dumps(client_ids).decode()
        records = {
            client_id: (record_from(orjson.loads(body)), str(tag))
            for client_id, tag, body in connection.execute(
                "SELECT client_id, tag, body FROM records "
                "WHERE generation = ? AND client_id IN (SELECT value FROM json_each(?))",
                (self._generation, wanted),
            )
        }
        announced = {
            client_id: (announced_from(orjson.loads(body)), str(tag))
            for client_id, tag, body in connection.execute(
                "SELECT client_id, tag, body FROM announced "
                "WHERE projection = ? AND client_id IN (SELECT value FROM json_each(?))",
                (self._projection, wanted),
            )
        }
        nothing = (None, None)
        return {
            client_id: Loaded(*records.get(client_id, nothing), *announced.get(client_id, nothing))
            for client_id in client_ids
        }

    def _tags(self, connection: sqlite3.Connection, client_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Present tags of record and announcement state; nobody can change them before this transaction ends."""
        wanted = orjson.dumps(client_ids).decode()
        rows = connection.execute(
            "SELECT value, ifnull(r.tag, ''), ifnull(a.tag, '') FROM json_each(?) "
            "LEFT JOIN records r ON r.generation = ? AND r.client_id = value "
            "LEFT JOIN announced a ON a.projection = ? AND a.client_id = value",
            (wanted, self._generation, self._projection),
        )
        return {client_id: (str(record_tag), str(announced_tag)) for client_id, record_tag, announced_tag in rows}

    def _commit(self, connection: sqlite3.Connection, commits: Sequence[Commit]) -> list[Loaded | None]:
        tags = self._tags(connection, [commit.record.client_id for commit in commits])
        now = utc_text(self._clock())
        results: list[Loaded | None] = []
        records: list[tuple[Any, ...]] = []
        audit: list[tuple[Any, ...]] = []
        announced: list[tuple[Any, ...]] = []
        outbox: list[tuple[Any, ...]] = []
        for commit in commits:
            loaded, record = commit.loaded, commit.record
            if tags[record.client_id] != (loaded.record_tag or "", loaded.announced_tag or ""):
                results.append(None)
                continue
            tag = int(loaded.record_tag or 0) + 1
            parked = record.parked is not None
            records.append((self._generation, record.client_id, tag, parked, _text(record_document(record))))
            audit += [
                (self._generation, entry.client_id, entry.version, _text(audit_document(entry)))
                for entry in commit.audit
            ]
            told, told_tag = loaded.announced, loaded.announced_tag
            if commit.announced is not None:
                told, told_tag = commit.announced, str(int(told_tag or 0) + 1)
                announced.append((self._projection, record.client_id, int(told_tag), _text(announced_document(told))))
            if commit.outbox is not None:
                entry = commit.outbox
                outbox.append((self._projection, entry.client_id, entry.seq, now, _text(outbox_document(entry))))
            results.append(Loaded(record, str(tag), told, told_tag))
        connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", records)
        connection.executemany(_UPSERT_AUDIT, audit)
        connection.executemany("INSERT OR REPLACE INTO announced VALUES (?, ?, ?, ?)", announced)
        connection.executemany("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?)", outbox)
        return results


def _text(document: Document) -> str:
    return orjson.dumps(document).decode()
