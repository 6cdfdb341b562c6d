"""Somebody who changes what is stored, behind the back of the application, on either database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import orjson

from eventstore import (
    EVENTS_CONTAINER,
    CosmosEventStore,
    EventStore,
    RecordedEvent,
    SqliteEventStore,
    open_events,
)
from projections import (
    PROJECTIONS_CONTAINER,
    CosmosDocumentStore,
    CosmosProjectionStore,
    DocumentStore,
    Healer,
    Outbox,
    ProjectionStore,
    Projector,
    SqliteDocumentStore,
    SqliteProjectionStore,
    Verifier,
    open_projections,
)
from tests.support.clients import clients
from tests.support.cosmos import Containers
from tests.support.projecting import RECORDED_AT

Json = Any
Place = tuple[str, str, int]
"""Client, kind (or `event`) and number of a document."""
Edit = Callable[[dict[str, Json]], None]


class Scene(Protocol):
    """Stores of the sample clients, and what a vandal can do to them."""

    @property
    def events(self) -> EventStore:
        """The streams."""

    @property
    def store(self) -> ProjectionStore:
        """The records."""

    @property
    def outbox(self) -> Outbox:
        """What is to be published."""

    @property
    def documents(self) -> DocumentStore:
        """All of it as it lies."""

    def kept(self) -> dict[Place, bytes]:
        """Every document and event as it lies, with its tag."""

    def edit(self, client_id: str, kind: str, number: int, change: Edit) -> None:
        """Change a document in place."""

    def remove(self, client_id: str, kind: str, number: int) -> None:
        """Delete a document."""

    def add_audit(self, client_id: str, like: int, number: int) -> None:
        """Put a copy of an audit entry under another version."""

    def edit_event(self, client_id: str, version: int, change: Edit) -> None:
        """Change an event in place; its `version` may change as well."""

    def remove_event(self, client_id: str, version: int) -> None:
        """Delete an event."""


def verifier(scene: Scene, **options: Any) -> Verifier:
    """One that expects every event to be folded."""
    return Verifier(clients, scene.events, scene.documents, **{"projected_until": "z", **options})


def healer(scene: Scene, **options: Any) -> Healer:
    """One with a projector of its own."""
    projector = Projector(clients, scene.events, scene.store)
    return Healer(clients, scene.events, scene.documents, verifier(scene, **options), projector)


class SqliteScene:
    """The embedded default in a directory."""

    _KEYS: ClassVar = {
        "record": ("records", "client_id = ? AND ? >= 0"),
        "announced": ("announced", "client_id = ? AND ? >= 0"),
        "audit": ("audit", "client_id = ? AND version = ?"),
        "outbox": ("outbox", "client_id = ? AND seq = ?"),
    }

    def __init__(self, directory: Path) -> None:
        self._events, self._projections = open_events(directory), open_projections(directory)
        self.events = SqliteEventStore(self._events, clock=lambda: RECORDED_AT)
        self.store = self.outbox = SqliteProjectionStore(self._projections, clients)
        self.documents = SqliteDocumentStore(self._projections, clients)
        for trigger in ("events_never_change", "events_never_vanish", "events_only_continue"):
            self._run(self._events, f"DROP TRIGGER {trigger}")

    def close(self) -> None:
        self._events.close()
        self._projections.close()

    def kept(self) -> dict[Place, bytes]:
        tables = [(self._events, "event", "events")]
        tables += [(self._projections, kind, table) for kind, (table, _) in self._KEYS.items()]
        found: dict[Place, bytes] = {}
        for database, kind, table in tables:
            with database.read() as connection:
                rows = connection.execute(f"SELECT * FROM {table}")
                names = [name for name, *_ in rows.description]
                for row in rows:
                    document = dict(zip(names, row, strict=True))
                    number = document.get("version") or document.get("seq") or 0
                    found[document["client_id"], kind, number] = orjson.dumps(document)
        return found

    def edit(self, client_id: str, kind: str, number: int, change: Edit) -> None:
        table, key = self._KEYS[kind]
        with self._projections.read() as connection:
            (body,) = connection.execute(f"SELECT body FROM {table} WHERE {key}", (client_id, number)).fetchone()
        document = orjson.loads(body)
        change(document)
        self._run(
            self._projections,
            f"UPDATE {table} SET body = ? WHERE {key}",
            orjson.dumps(document).decode(),
            client_id,
            number,
        )

    def remove(self, client_id: str, kind: str, number: int) -> None:
        table, key = self._KEYS[kind]
        self._run(self._projections, f"DELETE FROM {table} WHERE {key}", client_id, number)

    def add_audit(self, client_id: str, like: int, number: int) -> None:
        self._run(
            self._projections,
            "INSERT INTO audit SELECT generation, client_id, ?, body FROM audit WHERE client_id = ? AND version = ?",
            number,
            client_id,
            like,
        )

    def edit_event(self, client_id: str, version: int, change: Edit) -> None:
        [event] = self.events.read(client_id, after=version - 1, until=version)
        document = event._asdict()
        change(document)
        document["data"] = orjson.dumps(document["data"]).decode()
        columns = ", ".join(f"{name} = ?" for name in document)
        self._run(
            self._events,
            f"UPDATE events SET {columns} WHERE client_id = ? AND version = ?",
            *document.values(),
            client_id,
            version,
        )

    def remove_event(self, client_id: str, version: int) -> None:
        self._run(self._events, "DELETE FROM events WHERE client_id = ? AND version = ?", client_id, version)

    def run(self, statement: str) -> None:
        """Do something else to the projections."""
        self._run(self._projections, statement)

    def _run(self, database: Any, statement: str, *parameters: object) -> None:
        database.write(lambda connection: connection.execute(statement, parameters))


class CosmosScene:
    """Containers on the wire server."""

    def __init__(self, containers: Containers) -> None:
        self._events = containers.open(EVENTS_CONTAINER)
        self._projections = containers.open(PROJECTIONS_CONTAINER)
        self.events = CosmosEventStore(self._events, clock=lambda: RECORDED_AT)
        self.store = self.outbox = CosmosProjectionStore(self._projections, clients)
        self.documents = CosmosDocumentStore(self._projections, clients)

    def kept(self) -> dict[Place, bytes]:
        found: dict[Place, bytes] = {}
        for container in (self._events, self._projections):
            for document in container.query_items("SELECT * FROM c", enable_cross_partition_query=True):
                numbered = document["id"].rpartition(":")[2]
                place = document["client_id"], document.get("kind", "event"), int(numbered) if numbered.isdigit() else 0
                found[place] = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        return found

    def edit(self, client_id: str, kind: str, number: int, change: Edit) -> None:
        document = self._read(client_id, kind, number)
        change(document["body"])
        self._projections.replace_item(document["id"], document)

    def edit_beside(self, client_id: str, kind: str, number: int, change: Edit) -> None:
        """Change what stands beside the document."""
        document = self._read(client_id, kind, number)
        change(document)
        self._projections.replace_item(document["id"], document)

    def remove(self, client_id: str, kind: str, number: int) -> None:
        self._projections.delete_item(self._id(kind, number), client_id)

    def add_audit(self, client_id: str, like: int, number: int) -> None:
        document = self._read(client_id, "audit", like)
        self._projections.create_item({**document, "id": self._id("audit", number), "version": number})

    def edit_event(self, client_id: str, version: int, change: Edit) -> None:
        document = self._events.read_item(f"{version:012}", client_id)
        change(document)
        self._events.replace_item(f"{version:012}", document)

    def remove_event(self, client_id: str, version: int) -> None:
        self._events.delete_item(f"{version:012}", client_id)

    def _read(self, client_id: str, kind: str, number: int) -> dict[str, Any]:
        return dict(self._projections.read_item(self._id(kind, number), client_id))

    def _id(self, kind: str, number: int) -> str:
        owner = "clients.v1" if kind in {"record", "audit"} else "clients"
        return f"{owner}:{kind}:{number:012}" if kind in {"audit", "outbox"} else f"{owner}:{kind}"


def rechain(scene: Scene, client_id: str, version: int, change: Edit) -> None:
    """Change an event and work all hashes from there on out anew, as somebody would who knows how."""
    previous = ""
    for event in list(scene.events.read(client_id)):
        if event.version >= version:
            rewritten = _rehashed(event, previous, change if event.version == version else lambda _: None)
            scene.edit_event(client_id, event.version, lambda document, new=rewritten: document.update(new._asdict()))  # type: ignore[misc]
            previous = rewritten.hash
        else:
            previous = event.hash


def _rehashed(event: RecordedEvent, previous: str, change: Edit) -> RecordedEvent:
    from eventstore.events import _hash

    document = event._asdict()
    change(document)
    fields = tuple(document.values())[:-1]
    return RecordedEvent._make((*fields, _hash(fields, previous)))


def each_client(count: int) -> Iterator[str]:
    """Ids of that many clients."""
    return (f"{number:04}" for number in range(count))
