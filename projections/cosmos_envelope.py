"""The documents of one projection as Cosmos DB keeps them: the JSON object, and beside it what is searched."""

from typing import Any

from .documents import Document
from .ports import ANNOUNCED, AUDIT, OUTBOX, RECORD
from .rules import Projection


class Envelopes:
    """Wraps the JSON objects of a projection.

    Args:
        projection: its name and version are part of ids.
    """

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection, self.generation = projection.name, projection.generation

    def document_id(self, kind: str, number: int = 0) -> str:
        """Id of a document; numbers have a fixed width, so that text order is their order."""
        if kind in {AUDIT, OUTBOX}:
            return f"{self.prefix(kind)}{number:012}"
        return f"{self.generation if kind == RECORD else self.projection}:{kind}"

    def prefix(self, kind: str) -> str:
        """What the ids of all audit or outbox entries begin with."""
        return f"{self.generation if kind == AUDIT else self.projection}:{kind}:"

    def place(self, document_id: str) -> tuple[str, int]:
        """Kind and number of a document."""
        before, _, last = document_id.rpartition(":")
        return (last, 0) if last in {RECORD, ANNOUNCED} else (before.rpartition(":")[2], int(last))

    def record(self, client_id: str, body: Document) -> Document:
        """A record, with whether it is parked."""
        return {**self._envelope(client_id, RECORD, body), "is_parked": body["parked"] is not None}

    def announced(self, client_id: str, body: Document) -> Document:
        """An announcement state."""
        return self._envelope(client_id, ANNOUNCED, body)

    def audit(self, client_id: str, body: Document) -> Document:
        """An audit entry, with what its changes touched, by sub-schema, field and both."""
        places = {(change["sub_schema"], change["field"]) for change in body["changes"]}
        return {
            **self._envelope(client_id, AUDIT, body, body["version"]),
            "version": body["version"],
            "event_type": body["event_type"],
            "source": body["source"],
            "recorded_at": body["recorded_at"],
            "touched": sorted(
                {touched for name, field in places for touched in (name, f"{name}.{field}", f".{field}")}
            ),
        }

    def outbox(self, client_id: str, body: Document, written_at: str) -> Document:
        """An announcement to publish, with the time since when it waits."""
        return {**self._envelope(client_id, OUTBOX, body, body["seq"]), "seq": body["seq"], "written_at": written_at}

    def _envelope(self, client_id: str, kind: str, body: Document, number: int = 0) -> Document:
        return {
            "id": self.document_id(kind, number),
            "client_id": client_id,
            "kind": kind,
            "projection": self.projection,
            "generation": self.generation,
            "body": body,
        }
