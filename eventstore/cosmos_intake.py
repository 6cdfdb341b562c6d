"""What goes with the events on Cosmos DB: durable cursors, and deliveries that could not become events."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from threading import Lock
from typing import Any

import orjson
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from .cosmos_client import WriteConflictError, cosmos_errors, cosmos_query, create_all
from .errors import RejectionNotFoundError
from .ports import Rejection

INTAKE_CONTAINER: dict[str, Any] = {
    "id": "intake",
    "partition_key": "/kind",
    "unique_keys": [],
    "indexed": ["/kind/?", "/number/?", "/source/?"],
}

_CHECKPOINT, _REJECTION = "checkpoint", "rejection"
_MAX_NUMBER = 2**53 - 1
_KEPT = ("number", "source", "key", "rejected_at", "code")


class CosmosCheckpointStore:
    """`CheckpointStore` on a container as described by `INTAKE_CONTAINER`; a load or save is one request.

    Args:
        container: the container.
    """

    def __init__(self, container: ContainerProxy) -> None:
        self._container = container

    def load(self, name: str) -> str | None:
        """See `CheckpointStore.load`."""
        with cosmos_errors():
            try:
                document = self._container.read_item(_id(name), _CHECKPOINT)
            except CosmosResourceNotFoundError:
                return None
        return str(document["cursor"])

    def save(self, name: str, cursor: str) -> None:
        """See `CheckpointStore.save`."""
        with cosmos_errors():
            self._container.upsert_item(_checkpoint(name, cursor), no_response=True)

    def create(self, name: str, cursor: str) -> str:
        """See `CheckpointStore.create`: one request more if there is one."""
        try:
            create_all(self._container, _CHECKPOINT, [_checkpoint(name, cursor)])
        except WriteConflictError:
            return self.load(name) or cursor
        return cursor


class CosmosRejectionStore:
    """`RejectionStore` on a container as described by `INTAKE_CONTAINER`.

    Numbers are the microsecond of arrival, so they ascend without a counter that all processes would fight for.

    Args:
        container: the container.
        clock: present time.
    """

    def __init__(self, container: ContainerProxy, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._container = container
        self._clock = clock
        self._mutex = Lock()
        self._last = 0

    def add(self, rejections: Iterable[Rejection]) -> None:
        """See `RejectionStore.add`: one request for each."""
        for rejection in rejections:
            document = {
                **rejection._asdict(),
                "id": _fingerprint(rejection),
                "kind": _REJECTION,
                "number": self._next_number(),
                "problems": list(rejection.problems),
                "payload": b64encode(rejection.payload).decode(),
            }
            try:
                create_all(self._container, _REJECTION, [document])
            except WriteConflictError:
                continue  # the same one is open already

    def open(self, *, source: str | None = None, after: int = 0, limit: int = 100) -> Sequence[Rejection]:
        """See `RejectionStore.open`."""
        return [_rejection(document) for document in self._find(source, after, limit)]

    def get(self, number: int) -> Rejection:
        """See `RejectionStore.get`."""
        return _rejection(self._one(number))

    def resolve(self, number: int) -> None:
        """See `RejectionStore.resolve`."""
        document = self._one(number)
        with cosmos_errors():
            try:
                self._container.delete_item(document["id"], _REJECTION)
            except CosmosResourceNotFoundError:
                raise RejectionNotFoundError(number) from None

    def _one(self, number: int) -> dict[str, Any]:
        found = self._find(None, number - 1, 1)
        if not found or found[0]["number"] != number:
            raise RejectionNotFoundError(number)
        return found[0]

    def _find(self, source: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        text = f"SELECT TOP {int(limit)} * FROM c WHERE c.kind = @kind AND c.number > @after"  # noqa: S608 - a number
        where = {"kind": _REJECTION, "after": max(-_MAX_NUMBER, min(after, _MAX_NUMBER))}
        if source is not None:
            text, where = text + " AND c.source = @source", where | {"source": source}
        return list(cosmos_query(self._container, text + " ORDER BY c.number", _REJECTION, page=limit, **where))

    def _next_number(self) -> int:
        with self._mutex:
            self._last = max(self._last + 1, int(self._clock().timestamp() * 1_000_000))
            return self._last


def _checkpoint(name: str, cursor: str) -> dict[str, Any]:
    return {"id": _id(name), "kind": _CHECKPOINT, "name": name, "cursor": cursor}


def _id(name: str) -> str:
    """A name as document id, which must not hold every character."""
    return sha256(name.encode()).hexdigest()


def _fingerprint(rejection: Rejection) -> str:
    parts = [rejection.source, rejection.key, sha256(rejection.payload).hexdigest()]
    return sha256(orjson.dumps(parts)).hexdigest()


def _rejection(document: Mapping[str, Any]) -> Rejection:
    problems, payload = tuple(document["problems"]), b64decode(document["payload"])
    return Rejection._make((*(document[name] for name in _KEPT), problems, payload))
