"""What earlier generations of a projection left in the SQLite file `projections.db`."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import orjson

from eventstore import SqliteDatabase

from .passed import Left, Passed, passed_of
from .rules import Projection

_THERE = "generation IN (SELECT value FROM json_each(:generations))"
_THESE = f"{_THERE} AND client_id IN (SELECT value FROM json_each(:clients))"
_PASSED = f"""
    SELECT client_id, generation, r.body ->> '$.version', coalesce(r.body ->> '$.parked.waiting_for', 0),
        coalesce((
            SELECT a.body ->> '$.projection_version' FROM announced a
            WHERE a.projection = :name AND a.client_id = r.client_id
            AND a.body ->> '$.projection_version' < :own
        ), 0)
    FROM records r WHERE {_THESE}
"""
_ITS = "generation = :generation AND client_id = :client"
_REMOVE_ENTRIES = f"""
    DELETE FROM audit WHERE {_ITS} AND version IN (
        SELECT version FROM audit WHERE {_ITS} ORDER BY version DESC LIMIT :limit
    )
"""
_REMOVE_RECORD = f"DELETE FROM records WHERE {_ITS} AND :limit > 0"
_TOGETHER = 1000  # documents of one transaction: what somebody else's commit may have to wait for
_OWNERS = f"""
    SELECT client_id FROM records WHERE {_THERE} AND client_id > :after
    UNION SELECT client_id FROM audit WHERE :audit AND {_THERE} AND client_id > :after AND version = 1
    ORDER BY client_id LIMIT :limit
"""


class SqlitePredecessors:
    """`Predecessors` of one projection.

    Args:
        database: from `open_projections`.
        projection: its name and version tell which generations were before.
    """

    def __init__(self, database: SqliteDatabase, projection: Projection[Any]) -> None:
        self._database = database
        self._projection = projection
        self._generations = orjson.dumps(projection.predecessors).decode()

    def passed(self, client_ids: Sequence[str]) -> Mapping[str, Passed]:
        """See `Predecessors.passed`: one query."""
        name, own, versions = self._projection.name, self._projection.version, self._projection.generations
        left: dict[str, list[Left]] = {}
        announcers: dict[str, int] = {}
        with self._database.read() as connection:
            named = self._named(clients=orjson.dumps(client_ids).decode(), name=name, own=own)
            for client_id, generation, version, waiting_for, announcer in connection.execute(_PASSED, named):
                left.setdefault(client_id, []).append(Left(versions[generation], version, waiting_for))
                announcers[client_id] = announcer
        return {client_id: passed_of(each, announcers[client_id]) for client_id, each in left.items()}

    def owners(self, *, audit: bool, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `Predecessors.owners`."""
        with self._database.read() as connection:
            rows = connection.execute(_OWNERS, self._named(audit=audit, after=after, limit=limit)).fetchall()
        return [client_id for (client_id,) in rows]

    def remove(self, client_ids: Sequence[str], *, audit: bool) -> int:
        """See `Predecessors.remove`: a transaction for each 1000 documents, the records of a client after its audit."""
        statements = [_REMOVE_ENTRIES, _REMOVE_RECORD] if audit else [_REMOVE_RECORD]

        def remove(connection: Any) -> int:
            removed = 0
            for client_id, generation, statement in product(client_ids, self._projection.predecessors, statements):
                named = {"client": client_id, "generation": generation, "limit": _TOGETHER - removed}
                removed += connection.execute(statement, named).rowcount
            return removed

        total = 0
        while removed := self._database.write(remove):
            total += removed
        return total

    def _named(self, **parameters: Any) -> dict[str, Any]:
        return {"generations": self._generations, **parameters}
