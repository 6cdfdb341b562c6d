"""The documents of single clients in the SQLite file `projections.db`, for checking and mending them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import orjson

from eventstore import SqliteDatabase, utc_text

from .documents import object_in
from .ports import ANNOUNCED, AUDIT, OUTBOX, RECORD, Mend, StoredDocument
from .rules import Projection

_PAGE = 500
_KEYS = {
    RECORD: ("records", "generation = :generation AND client_id = :client_id"),
    ANNOUNCED: ("announced", "projection = :projection AND client_id = :client_id"),
    AUDIT: ("audit", "generation = :generation AND client_id = :client_id AND version = :number"),
    OUTBOX: ("outbox", "projection = :projection AND client_id = :client_id AND seq = :number"),
}
_NUMBER = itemgetter(2)  # of a row of documents


def _record_tag(client_id: str) -> str:
    return f"coalesce((SELECT tag FROM records WHERE generation = :generation AND client_id = {client_id}), 0)"


_TAG = _record_tag(":client_id")
# Audit and outbox have no tags of their own; nobody writes them without the record.
_TAGS = {RECORD: "tag", ANNOUNCED: "tag", AUDIT: f"{_TAG} || ' ' || body", OUTBOX: f"{_TAG} || ' ' || body"}
_WRITES = {
    RECORD: "INSERT OR REPLACE INTO records VALUES (:generation, :client_id, :tag, :parked, :body)",
    ANNOUNCED: "INSERT OR REPLACE INTO announced VALUES (:projection, :client_id, :tag, :body)",
    AUDIT: "INSERT OR REPLACE INTO audit VALUES (:generation, :client_id, :number, :body)",
    OUTBOX: "INSERT INTO outbox VALUES (:projection, :client_id, :number, :now, :body) "
    "ON CONFLICT DO UPDATE SET body = excluded.body",
}


class SqliteDocumentStore:
    """`DocumentStore` of one projection.

    Args:
        database: from `open_projections`.
        projection: its name and version decide where documents are.
        clock: tells since when an outbox entry waits.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        projection: Projection[Any],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._names = {"projection": projection.name, "generation": projection.generation}
        self._clock = clock

    def documents(self, client_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDocument]]:
        """See `DocumentStore.documents`: one query, however many clients."""
        names = {**self._names, "client_ids": orjson.dumps(client_ids).decode()}
        these = "client_id IN (SELECT value FROM json_each(:client_ids))"
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT client_id, 'record', 0, body, tag, parked FROM records "
                f"WHERE generation = :generation AND {these} "
                "UNION ALL SELECT client_id, 'announced', 0, body, tag, NULL FROM announced "
                f"WHERE projection = :projection AND {these} "
                f"UNION ALL SELECT client_id, 'outbox', seq, body, {_record_tag('outbox.client_id')} || ' ' || body, NULL FROM outbox "
                f"WHERE projection = :projection AND {these}",
                names,
            ).fetchall()
        found: dict[str, list[StoredDocument]] = {client_id: [] for client_id in client_ids}
        for client_id, kind, number, body, tag, parked in sorted(rows, key=_NUMBER):
            found[client_id].append(StoredDocument(kind, number, body, str(tag), _beside(parked, body)))
        return found

    def audit_documents(self, client_id: str) -> Iterator[StoredDocument]:
        """See `DocumentStore.audit_documents`."""
        names = {**self._names, "client_id": client_id, "after": -(2**62), "limit": _PAGE}
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    f"SELECT version, body, {_TAG} FROM audit "
                    "WHERE generation = :generation AND client_id = :client_id AND version > :after "
                    "ORDER BY version LIMIT :limit",
                    names,
                ).fetchall()
            for version, body, tag in rows:
                yield StoredDocument(AUDIT, version, body, f"{tag} {body}")
            if len(rows) < _PAGE:
                return
            names["after"] = rows[-1][0]

    def mend(self, client_id: str, mends: Sequence[Mend]) -> bool:
        """See `DocumentStore.mend`: one transaction."""
        now = utc_text(self._clock())

        def write(connection: Any) -> bool:
            held = [self._named(client_id, mend, now) for mend in mends]
            for mend, names in zip(mends, held, strict=True):
                table, key = _KEYS[mend.kind]
                row = connection.execute(f"SELECT {_TAGS[mend.kind]} FROM {table} WHERE {key}", names).fetchone()
                if (None if row is None else str(row[0])) != mend.seen:
                    return False
            for mend, names in zip(mends, held, strict=True):
                table, key = _KEYS[mend.kind]
                connection.execute(
                    f"DELETE FROM {table} WHERE {key}" if mend.body is None else _WRITES[mend.kind], names
                )
            return True

        return self._database.write(write)

    def owners(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `DocumentStore.owners`: skips from client to client along the primary keys."""
        names = {**self._names, "after": after, "limit": limit}
        next_of = " UNION ALL ".join(
            f"SELECT min(client_id) AS client_id FROM {table} WHERE {key.split(' AND ')[0]} AND client_id > {{after}}"
            for table, key in _KEYS.values()
        )
        first, following = next_of.format(after=":after"), next_of.format(after="owners.client_id")
        with self._database.read() as connection:
            rows = connection.execute(
                f"WITH RECURSIVE owners (client_id) AS (SELECT min(client_id) FROM ({first}) UNION ALL "
                f"SELECT (SELECT min(client_id) FROM ({following})) FROM owners WHERE client_id IS NOT NULL) "
                "SELECT client_id FROM owners WHERE client_id IS NOT NULL LIMIT :limit",
                names,
            ).fetchall()
        return [client_id for (client_id,) in rows]

    def _named(self, client_id: str, mend: Mend, now: str) -> dict[str, Any]:
        body = mend.body or {}
        return {
            **self._names,
            "client_id": client_id,
            "number": mend.number,
            "now": now,
            "body": orjson.dumps(body).decode(),
            "parked": body.get("parked") is not None,
            "tag": int(mend.seen or 0) + 1 if mend.kind in {RECORD, ANNOUNCED} else 0,
        }


def _beside(parked: int | None, body: str) -> tuple[str, ...]:
    return () if parked is None or bool(parked) is (object_in(body).get("parked") is not None) else ("parked",)
