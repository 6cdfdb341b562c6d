"""The documents of single clients on Cosmos DB, for checking and mending them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from azure.cosmos import ContainerProxy

from eventstore import WriteConflictError, cosmos_errors, cosmos_query, utc_text

from .cosmos_envelope import Envelopes
from .documents import Document
from .ports import ANNOUNCED, AUDIT, OUTBOX, RECORD, Mend, StoredDocument
from .rules import Projection

_PAGE = 100
_OPERATIONS = 90  # of one batch, which takes 100
_BYTES = 1_000_000  # of one batch, which takes 2 MB with escapes


class CosmosDocumentStore:
    """`DocumentStore` of one projection on the container of its store: one request, and one for each page of audit.

    Args:
        container: the container.
        projection: its name and version decide where documents are.
        clock: tells since when an outbox entry waits.
    """

    def __init__(
        self,
        container: ContainerProxy,
        projection: Projection[Any],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._container = container
        self._envelopes = Envelopes(projection)
        self._clock = clock

    def documents(self, client_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDocument]]:
        """See `DocumentStore.documents`: a request for each client."""
        return {client_id: self._documents(client_id) for client_id in client_ids}

    def audit_documents(self, client_id: str) -> Iterator[StoredDocument]:
        """See `DocumentStore.audit_documents`."""
        return self._query(client_id, "STARTSWITH(c.id, @audit) ORDER BY c.id", audit=self._envelopes.prefix(AUDIT))

    def mend(self, client_id: str, mends: Sequence[Mend]) -> bool:
        """See `DocumentStore.mend`: a batch for each 90 documents or 1 MB."""
        for portion in _portions(mends):
            try:
                with cosmos_errors():
                    # Built for this one call: the SDK takes conditions out of what it is given.
                    self._container.execute_item_batch(
                        [self._operation(client_id, mend) for mend in portion], client_id
                    )
            except WriteConflictError:
                return False
        return True

    def owners(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `DocumentStore.owners`: reads the index of every document of the clients it finds."""
        found = cosmos_query(
            self._container,
            "SELECT c.client_id FROM c WHERE c.client_id > @after AND c.projection = @projection ORDER BY c.client_id",
            None,
            page=limit,
            after=after,
            projection=self._envelopes.projection,
        )
        owners: dict[str, None] = {}
        for document in found:
            owners[document["client_id"]] = None
            if len(owners) == limit:
                break
        return list(owners)

    def _documents(self, client_id: str) -> list[StoredDocument]:
        found = self._query(
            client_id,
            "c.id IN (@record, @announced) OR STARTSWITH(c.id, @outbox)",
            record=self._envelopes.document_id(RECORD),
            announced=self._envelopes.document_id(ANNOUNCED),
            outbox=self._envelopes.prefix(OUTBOX),
        )
        return sorted(found, key=lambda document: document.number)

    def _query(self, client_id: str, condition: str, **ids: str) -> Iterator[StoredDocument]:
        """Documents by their ids, which nobody can change: whatever else is wrong with them, they are found."""
        text = f"SELECT * FROM c WHERE {condition}"  # noqa: S608 - constant conditions
        return map(self._stored, cosmos_query(self._container, text, client_id, page=_PAGE, **ids))

    def _stored(self, document: Document) -> StoredDocument:
        kind, number = self._envelopes.place(document["id"])
        body = document.get("body")
        body = body if isinstance(body, dict) else {}
        text = orjson.dumps(body).decode()
        return StoredDocument(kind, number, text, document["_etag"], self._beside(kind, document, body))

    def _beside(self, kind: str, document: Document, body: Document) -> tuple[str, ...]:
        """Fields beside the body that do not fit it; when an outbox entry was written stands nowhere else."""
        try:
            expected = self._enveloped(document["client_id"], kind, body, document.get("written_at", ""))
        except (KeyError, TypeError):
            return ()  # the body itself is no document of its kind
        return tuple(sorted(name for name, value in expected.items() if document.get(name) != value))

    def _operation(self, client_id: str, mend: Mend) -> Any:
        document_id = self._envelopes.document_id(mend.kind, mend.number)
        condition = {"if_match_etag": mend.seen}
        if mend.body is None:
            return "delete", (document_id,), condition
        document = self._enveloped(client_id, mend.kind, mend.body, utc_text(self._clock()))
        return ("create", (document,)) if mend.seen is None else ("replace", (document_id, document), condition)

    def _enveloped(self, client_id: str, kind: str, body: Document, written_at: str) -> Document:
        if kind == OUTBOX:
            return self._envelopes.outbox(client_id, body, written_at)
        by_kind = {
            RECORD: self._envelopes.record,
            ANNOUNCED: self._envelopes.announced,
            AUDIT: self._envelopes.audit,
        }
        return by_kind[kind](client_id, body)


def _portions(mends: Sequence[Mend]) -> Iterator[list[Mend]]:
    portion: list[Mend] = []
    size = 0
    for mend in mends:
        length = len(orjson.dumps(mend.body))
        if portion and (len(portion) == _OPERATIONS or size + length > _BYTES):
            yield portion
            portion, size = [], 0
        portion.append(mend)
        size += length
    if portion:
        yield portion
