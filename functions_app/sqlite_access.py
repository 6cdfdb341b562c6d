"""The access log on SQLite, in a file of its own: `access.db`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eventstore import SqliteDatabase, utc_text

from .access import DAYS_KEPT, AccessEntry

_MIGRATIONS = [
    [
        """
        CREATE TABLE access (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            who TEXT NOT NULL,
            what TEXT NOT NULL,
            client_ref TEXT
        )
        """,
        "CREATE INDEX access_by_client ON access (client_ref, position)",
        "CREATE INDEX access_by_time ON access (at)",
        "CREATE TRIGGER access_never_changes BEFORE UPDATE ON access BEGIN SELECT RAISE(ABORT, 'append only'); END",
    ]
]
_PAGE = 500
_MAX_POSITION = 2**62


def open_access(directory: Path) -> SqliteDatabase:
    """The file `access.db` of a data directory.

    Raises:
        StoreVersionError: a newer version of this software wrote it.
        StoreUnavailableError: it cannot be opened.
    """
    return SqliteDatabase(directory / "access.db", _MIGRATIONS)


class SqliteAccessLog:
    """`AccessLog` in one SQLite file; an entry is one commit, which also forgets those that are too old.

    Args:
        database: from `open_access`.
        clock: tells how old an entry is.
    """

    def __init__(self, database: SqliteDatabase, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def add(self, entry: AccessEntry) -> None:
        """See `AccessLog.add`."""
        oldest = utc_text(self._clock() - timedelta(days=DAYS_KEPT))

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM access WHERE at < ?", (oldest,))
            connection.execute("INSERT INTO access (at, who, what, client_ref) VALUES (?, ?, ?, ?)", entry)

        self._database.write(work)

    def entries(
        self, *, client_ref: str | None = None, since: str | None = None, until: str | None = None
    ) -> Iterator[AccessEntry]:
        """See `AccessLog.entries`."""
        about = "" if client_ref is None else "client_ref = :client_ref AND"
        before = _MAX_POSITION
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    f"SELECT position, at, who, what, client_ref FROM access WHERE {about} position < :before "
                    "AND at >= ifnull(:since, '') AND at < ifnull(:until, 'z') ORDER BY position DESC LIMIT :limit",
                    {"client_ref": client_ref, "before": before, "since": since, "until": until, "limit": _PAGE},
                ).fetchall()
            yield from (AccessEntry(*row[1:]) for row in rows)
            if len(rows) < _PAGE:
                return
            before = rows[-1][0]
