"""States, pauses and log of the deliveries on Cosmos DB.

What is known of a client is in the client's partition, so a state and the log entry of the attempt that led to it are one
batch. A batch without a clear answer is settled by reading back: every write leaves its own mark in what it writes.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from random import random
from typing import Any
from uuid import uuid4

from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosResourceNotFoundError

from eventstore import ContentionError, StoreUnavailableError, WriteConflictError, cosmos_errors, cosmos_query

from .errors import InvalidLogCursorError
from .ports import HeldPause, HeldState, LogEntry, LogPage, Pause
from .state import DeliveryState, raised

DELIVERIES_CONTAINER: dict[str, Any] = {
    "id": "deliveries",
    "partition_key": "/client_id",
    "unique_keys": [],
    # States are found by what is to be done about them, log entries by their position; the rest is only read.
    "indexed": ["/client_id/?", "/kind/?", "/integration/?", "/due_at/?", "/is_failed/?", "/position/?"],
}

_INTEGRATIONS = "~integrations"  # partition of what belongs to no client; no client id reads like this
_ROUNDS = 8
_PAGE = 100
_BACKOFF = 0.02  # seconds
_LAST = "z"  # sorts after every time and every position
_POSITION = re.compile(r"[0-9T:.Z-]{27}~[a-z0-9_-]{1,40}~[0-9]{12}")

_Document = dict[str, Any]


class _GoneError(WriteConflictError):
    """What was to be replaced is not there any more."""


class CosmosDeliveryStore:
    """`DeliveryStore`, `DeliveryLog` and `PauseStore` on a container as described by `DELIVERIES_CONTAINER`.

    Costs in requests: loading 1, saving 1, raising what is wanted 2 for up to 100 integrations together, or 1 if nothing
    rises. Lost races and lost answers cost a read each, and a further write if nothing was stored.

    Args:
        container: the container.
        new_mark: gives a text never given before, which identifies a write.
        sleep: waits so many seconds between rounds.
        random: uniform in [0, 1), for jitter.
    """

    def __init__(
        self,
        container: ContainerProxy,
        *,
        new_mark: Callable[[], str] = lambda: uuid4().hex,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random,  # noqa: S311 - jitter
    ) -> None:
        self._container = container
        self._new_mark, self._sleep, self._random = new_mark, sleep, random

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        """See `DeliveryStore.raise_wanted`.

        Raises:
            ContentionError: others wrote in between every time; nothing was stored.
        """
        trouble: Exception | None = None
        for number in range(_ROUNDS):
            # Each round begins with what is stored, so a write that went through unnoticed leaves nothing to raise.
            operations = self._raising(client_id, wanted, at)
            if not operations:
                return
            try:
                self._write(client_id, operations)
            except (WriteConflictError, StoreUnavailableError) as error:
                trouble = error
            else:
                return
            self._back_off(number)
        raise _given_up(client_id, trouble)

    def load(self, client_id: str, integration: str) -> HeldState | None:
        """See `DeliveryStore.load`."""
        document = self._read(_state_id(integration), client_id)
        return None if document is None else HeldState(_state(document), _tag(document))

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        """See `DeliveryStore.save`.

        Raises:
            ContentionError: a log entry of that number exists already; nothing was stored.
        """
        return self._put(_state_document(state), tag, [] if entry is None else [_entry_document(entry)])

    def due(self, integration: str, *, before: str | None = None, limit: int = 100) -> Sequence[DeliveryState]:
        """See `DeliveryStore.due`."""
        before = _LAST if before is None else before
        return self._listed("c.due_at <= @before ORDER BY c.due_at", integration, limit, before=before)

    def failed(self, integration: str, *, after: str = "", limit: int = 100) -> Sequence[DeliveryState]:
        """See `DeliveryStore.failed`."""
        condition = "c.is_failed = true AND c.client_id > @after ORDER BY c.client_id"
        return self._listed(condition, integration, limit, after=after)

    def of_client(self, client_id: str) -> Sequence[DeliveryState]:
        """See `DeliveryStore.of_client`."""
        return [_state(document) for document in self._states(client_id)]

    def wanted(self, client_ids: Sequence[str]) -> Mapping[str, int]:
        """See `DeliveryStore.wanted`: a request for each client."""
        states = ((client_id, self.of_client(client_id)) for client_id in client_ids)
        return {client_id: max(state.wanted for state in found) for client_id, found in states if found}

    def entries(
        self, client_id: str, *, integration: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> LogPage:
        """See `DeliveryLog.entries`: newest is what ended last by the clock of the process that wrote it down."""
        if cursor is not None and _POSITION.fullmatch(cursor) is None:
            raise InvalidLogCursorError
        text = "SELECT * FROM c WHERE c.kind = 'log' AND c.position < @before"
        where = {"before": cursor or _LAST}
        if integration is not None:
            text, where = text + " AND c.integration = @integration", where | {"integration": integration}
        found = cosmos_query(self._container, text + " ORDER BY c.position DESC", client_id, page=limit + 1, **where)
        documents = list(islice(found, limit + 1))
        page = documents[:limit]
        more = len(documents) > limit
        return LogPage([_entry(document) for document in page], page[-1]["position"] if more else None)

    def load_pause(self, integration: str) -> HeldPause:
        """See `PauseStore.load_pause`."""
        document = self._read(_pause_id(integration), _INTEGRATIONS)
        if document is None:
            return HeldPause(Pause(integration), None)
        return HeldPause(Pause(integration, document["until"], document["reason"]), _tag(document))

    def save_pause(self, pause: Pause, tag: str | None) -> str | None:
        """See `PauseStore.save_pause`."""
        kept = {"id": _pause_id(pause.integration), "client_id": _INTEGRATIONS, "kind": "pause"}
        return self._put({**kept, **pause._asdict()}, tag, [])

    def _raising(self, client_id: str, wanted: Mapping[str, int], at: str) -> list[Any]:
        """The operations that bring the stored states to what is wanted."""
        stored = {document["integration"]: document for document in self._states(client_id)}
        operations = []
        for integration, seq in wanted.items():
            document = stored.get(integration)
            state = DeliveryState(client_id, integration) if document is None else _state(document)
            risen = raised(state, seq, at)
            if risen is not state:
                # The mark stays: who saved this state and got no answer still finds that the own write is in it.
                mark = "" if document is None else document["mark"]
                tag = None if document is None else _tag(document)
                operations.append(_guarded(_state_document(risen), tag, mark))
        return operations

    def _put(self, document: _Document, tag: str | None, created: Sequence[_Document]) -> str | None:
        """Store a document if it is still as it was loaded, and create others with it; the new tag, None if it is not.

        Reading back is needed after a conflict, too: it may be with an earlier attempt of this very write, as the SDK
        repeats some requests by itself. What is read may be of a time before the write, even before the tag.
        """
        client_id, revision, mark = document["client_id"], _revision(tag), self._new_mark()
        trouble: Exception | None = None
        for number in range(_ROUNDS):
            operations = [_guarded(document, tag, mark), *(_guarded(other, None, mark) for other in created)]
            try:
                return f"{revision + 1} {self._write(client_id, operations)}"
            except _GoneError:
                return None
            except (WriteConflictError, StoreUnavailableError) as error:
                trouble = error
            found = self._find(client_id, [each["id"] for each in (document, *created)])
            current = found.get(document["id"], {"revision": 0})
            if any(each["mark"] == mark for each in found.values()):
                # If others went on from it, the caller gets a tag that no write can match.
                return _tag(current) if current["revision"] == revision + 1 else f'{revision + 1} "{mark}"'
            if current["revision"] > revision:
                return None
            self._back_off(number)
        raise _given_up(client_id, trouble)

    def _write(self, client_id: str, operations: list[Any]) -> str:
        """Run operations as one batch, which takes the conditions out of them; the etag of the first document."""
        with cosmos_errors():
            try:
                results = self._container.execute_item_batch(operations, client_id)
            except CosmosBatchOperationError as error:
                if error.status_code == HTTPStatus.NOT_FOUND:
                    raise _GoneError from error
                raise
        return str(results[0]["eTag"])

    def _read(self, document_id: str, client_id: str) -> Mapping[str, Any] | None:
        with cosmos_errors():
            try:
                return self._container.read_item(document_id, client_id)
            except CosmosResourceNotFoundError as error:
                if error.sub_status:  # not the document is missing: the replica is behind, or there is no container
                    raise
                return None

    def _listed(self, condition: str, integration: str, limit: int, **where: str) -> list[DeliveryState]:
        """States of all clients at an integration under a condition, in its order."""
        text = f"SELECT * FROM c WHERE c.kind = 'state' AND c.integration = @integration AND {condition}"  # noqa: S608 - constants
        documents = cosmos_query(self._container, text, None, page=limit, integration=integration, **where)
        return [_state(document) for document in islice(documents, limit)]

    def _states(self, client_id: str) -> list[_Document]:
        text = "SELECT * FROM c WHERE c.kind = 'state' ORDER BY c.integration"
        return list(cosmos_query(self._container, text, client_id, page=_PAGE))

    def _find(self, client_id: str, document_ids: Sequence[str]) -> dict[str, _Document]:
        marks = ", ".join(f"@id{number}" for number in range(len(document_ids)))
        documents = cosmos_query(
            self._container,
            f"SELECT * FROM c WHERE c.id IN ({marks})",  # noqa: S608 - names of parameters
            client_id,
            page=_PAGE,
            **{f"id{number}": document_id for number, document_id in enumerate(document_ids)},
        )
        return {document["id"]: document for document in documents}

    def _back_off(self, number: int) -> None:
        self._sleep(self._random() * _BACKOFF * 2**number)


def _guarded(document: _Document, tag: str | None, mark: str) -> Any:
    """The operation that writes a document only if it is still as it was loaded, or still not there."""
    written = {**document, "mark": mark, "revision": _revision(tag) + 1}
    if tag is None:
        return "create", (written,)
    return "replace", (written["id"], written), {"if_match_etag": tag.partition(" ")[2]}


def _tag(document: Mapping[str, Any]) -> str:
    """Revision and etag: the etag guards the next write, the revision tells an older document from a newer one."""
    return f"{document['revision']} {document['_etag']}"


def _revision(tag: str | None) -> int:
    return 0 if tag is None else int(tag.partition(" ")[0])


def _given_up(client_id: str, trouble: Exception | None) -> Exception:
    return trouble if isinstance(trouble, StoreUnavailableError) else ContentionError(client_id, _ROUNDS)


def _state_id(integration: str) -> str:
    return f"state:{integration}"


def _pause_id(integration: str) -> str:
    return f"pause:{integration}"


def _state_document(state: DeliveryState) -> _Document:
    return {
        "id": _state_id(state.integration),
        "kind": "state",
        **state._asdict(),
        "is_failed": state.failed_code is not None,
    }


def _state(document: Mapping[str, Any]) -> DeliveryState:
    return DeliveryState._make(document[name] for name in DeliveryState._fields)


def _entry_document(entry: LogEntry) -> _Document:
    return {
        "id": f"log:{entry.integration}:{entry.number:012}",
        "kind": "log",
        **entry._asdict(),
        # Unique in the partition and sorted by time, so that a page can continue exactly after the last one.
        "position": f"{entry.at}~{entry.integration}~{entry.number:012}",
    }


def _entry(document: Mapping[str, Any]) -> LogEntry:
    entry = LogEntry._make(document[name] for name in LogEntry._fields)
    return entry._replace(seconds=float(entry.seconds))  # whole numbers come back without a point
