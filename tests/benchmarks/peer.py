"""The peer: the same events projected with the library `eventsourcing`, the way its documentation shows it.

A `Projection` with a materialised view, here a tracking recorder on SQLite with a table for the present record and one for
the audit. Each event is processed in a transaction of its own that also moves the tracking position, which is what keeps
its view and its position together. Events come from the application's notification log in pages of 100; selecting and
decoding them is part of the work, as it is for ours.
"""

# The library is optional; where it is not installed, its classes and decorators are Any to the type checker.
# mypy: allow-subclassing-any, allow-untyped-decorators

import json
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .workload import PER_CLIENT, change

HAS_PEER = find_spec("eventsourcing") is not None
_PAGE = 100


@cache  # the library refuses a second class of the same name
def _classes() -> tuple[Any, Any]:
    """The aggregate and the view.

    Raises:
        ImportError: the library is not installed.
    """
    from eventsourcing.domain import Aggregate, event
    from eventsourcing.sqlite import SQLiteTrackingRecorder

    class Client(Aggregate):
        """A client whose fields change."""

        @event("Created")
        def __init__(self, number: int) -> None:
            self.number = number

        @event("Changed")
        def change(self, sub_schema: str, fields: dict[str, Any]) -> None:
            """Note a change."""

        @staticmethod
        def create_id(number: int) -> Any:
            """The same id for the same client."""
            return uuid5(NAMESPACE_URL, f"/clients/{number}")

    class View(SQLiteTrackingRecorder):
        """Present records and audit rows."""

        def construct_create_table_statements(self) -> list[str]:
            """The two tables beside the tracking table."""
            return [
                *super().construct_create_table_statements(),
                "CREATE TABLE IF NOT EXISTS records (client_id TEXT PRIMARY KEY, version INTEGER, state TEXT) WITHOUT ROWID",
                "CREATE TABLE IF NOT EXISTS audit (client_id TEXT, version INTEGER, body TEXT, PRIMARY KEY (client_id, version)) WITHOUT ROWID",
            ]

        def process(self, happened: Any, tracking: Any) -> None:
            """Fold one event into its client's record and write what it changed, together with the position."""
            client_id = str(happened.originator_id)
            with self.datastore.transaction(commit=True) as cursor:
                self._insert_tracking(cursor, tracking)
                cursor.execute("SELECT state FROM records WHERE client_id = ?", (client_id,))
                found = cursor.fetchone()
                state = json.loads(found[0]) if found else {}
                changes = []
                fields = getattr(happened, "fields", {})
                present = state.setdefault(getattr(happened, "sub_schema", "root"), {})
                for name, value in fields.items():
                    if present.get(name) != value:
                        changes.append([name, present.get(name), value])
                        present[name] = value
                version = happened.originator_version
                cursor.execute(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (client_id, version, json.dumps(state))
                )
                cursor.execute("INSERT INTO audit VALUES (?, ?, ?)", (client_id, version, json.dumps(changes)))

    return Client, View


def make_peer(directory: Path, clients: int) -> Callable[[], int]:
    """An application filled with the workload in a new directory, ready to be projected once.

    Raises:
        ImportError: the library is not installed.
    """
    from eventsourcing.application import Application
    from eventsourcing.persistence import Tracking
    from eventsourcing.sqlite import SQLiteFactory

    client_class, view_class = _classes()
    directory.mkdir()
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(directory / "peer.db"),
        "SQLITE_LOCK_TIMEOUT": "10",
    }
    application: Any = Application(env=environment)
    for number in range(clients):
        client = client_class(number)
        for place in range(PER_CLIENT - 1):
            happened = change(number, place)
            client.change(type(happened).__name__, happened.model_dump(mode="json"))
        application.save(client)
    factory: Any = SQLiteFactory({**environment, "SQLITE_DBNAME": str(directory / "view.db")})
    view = factory.tracking_recorder(view_class)

    def project() -> int:
        done = 0
        while notifications := application.recorder.select_notifications(done + 1, _PAGE):
            for notification in notifications:
                view.process(
                    application.mapper.to_domain_event(notification), Tracking(application.name, notification.id)
                )
                done = notification.id
        return done

    return project
