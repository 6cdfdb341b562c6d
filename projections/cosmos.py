"""Records, audit, announcements and outbox of one projection on Cosmos DB, side by side in each client's partition."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from eventstore import (
    OutcomeUnknownError,
    StoreRefusedError,
    WriteConflictError,
    cosmos_errors,
    cosmos_query,
    utc_text,
)

from .cosmos_envelope import Envelopes
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
from .ports import ANNOUNCED, OUTBOX, RECORD, AuditFilter, Commit, Committed, Loaded, Served, newest_of
from .record import AuditEntry, OutboxEntry, Record
from .rules import Projection

PROJECTIONS_CONTAINER: dict[str, Any] = {
    "id": "projections",
    "partition_key": "/client_id",
    "unique_keys": [],
    # State and changes are read by client and never searched; `touched` is how the audit is searched.
    "indexed": [
        "/client_id/?",
        "/kind/?",
        "/generation/?",
        "/projection/?",
        "/version/?",
        "/seq/?",
        "/written_at/?",
        "/is_parked/?",
        "/event_type/?",
        "/source/?",
        "/recorded_at/?",
        "/touched/[]/?",
    ],
}

_PAGE = 100
_MAX_VERSION = 10**12 - 1


class CosmosProjectionStore:
    """`ProjectionStore`, `AuditLog` and `Outbox` of one projection on a container as described by `PROJECTIONS_CONTAINER`.

    Loading a client is one request, committing it is one, a page of its audit is one.

    Args:
        container: the container.
        projection: its name and version decide where records are kept.
        clock: tells how long an outbox entry waits.
    """

    group = 1

    def __init__(
        self,
        container: ContainerProxy,
        projection: Projection[Any],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._container = container
        self._projection = projection.name
        self._generation = projection.generation
        self._generations = projection.generations
        self._generation_at = {version: name for name, version in self._generations.items()}
        self._envelopes = Envelopes(projection)
        self._record_id = self._envelopes.document_id(RECORD)
        self._announced_id = self._envelopes.document_id(ANNOUNCED)
        self._clock = clock

    def load(self, client_ids: Sequence[str]) -> Mapping[str, Loaded]:
        """See `ProjectionStore.load`."""
        return {client_id: self._load(client_id) for client_id in client_ids}

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        """See `ProjectionStore.commit`: one transactional batch for each client."""
        return [self._commit(commit) for commit in commits]

    def newest(self, client_id: str) -> Served | None:
        """See `ProjectionStore.newest`: one request, however many generations there are."""
        documents = cosmos_query(
            self._container,
            "SELECT * FROM c WHERE c.kind = 'record' AND c.projection = @projection",
            client_id,
            page=_PAGE,
            projection=self._projection,
        )
        return newest_of(
            (self._generations[document["generation"]], record_from(document["body"]))
            for document in documents
            if document["generation"] in self._generations
        )

    def parked(self, *, after: str = "", limit: int = 100) -> Sequence[Record]:
        """See `ProjectionStore.parked`."""
        documents = self._across(
            "SELECT * FROM c WHERE c.kind = 'record' AND c.generation = @generation AND c.is_parked = true "
            "AND c.client_id > @after ORDER BY c.client_id",
            limit,
            generation=self._generation,
            after=after,
        )
        return [record_from(document["body"]) for document in documents]

    def client_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `ProjectionStore.client_ids`."""
        documents = self._across(
            "SELECT c.client_id FROM c WHERE c.kind = 'record' AND c.generation = @generation "
            "AND c.client_id > @after ORDER BY c.client_id",
            limit,
            generation=self._generation,
            after=after,
        )
        return [str(document["client_id"]) for document in documents]

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
        conditions = {
            "c.kind = @kind": ("kind", "audit"),
            "c.generation = @generation": (
                "generation",
                self._generation if projection_version is None else self._generation_at[projection_version],
            ),
            "c.version > @after": ("after", min(max(after, 0), _MAX_VERSION)),
            "c.version <= @last": ("last", _MAX_VERSION if until is None else min(max(until, 0), _MAX_VERSION)),
            "c.event_type = @event_type": ("event_type", where.event_type),
            "c.source = @source": ("source", where.source),
            "c.recorded_at >= @since": ("since", where.since),
            "c.recorded_at < @until": ("until", where.until),
            "ARRAY_CONTAINS(c.touched, @touched)": ("touched", _wanted(where)),
        }
        asked = {text: pair for text, pair in conditions.items() if pair[1] is not None}
        text = f"SELECT * FROM c WHERE {' AND '.join(asked)} ORDER BY c.version"  # noqa: S608 - constant conditions
        documents = cosmos_query(self._container, text, client_id, page=limit, **dict(asked.values()))
        return [audit_from(document["body"]) for document in islice(documents, limit)]

    def pending(self, client_id: str) -> Sequence[OutboxEntry]:
        """See `Outbox.pending`."""
        documents = cosmos_query(
            self._container,
            "SELECT * FROM c WHERE c.kind = 'outbox' AND c.projection = @projection ORDER BY c.seq",
            client_id,
            page=_PAGE,
            projection=self._projection,
        )
        return [outbox_from(document["body"]) for document in documents]

    def waiting(self, *, older_than: str | None = None, limit: int = 1000) -> Sequence[str]:
        """See `Outbox.waiting`."""
        documents = self._across(
            "SELECT c.client_id FROM c WHERE c.kind = 'outbox' AND c.projection = @projection "
            "AND c.written_at < @before ORDER BY c.written_at",
            None,
            projection=self._projection,
            before=older_than or "z",
        )
        clients: dict[str, None] = {}
        for document in documents:
            clients[document["client_id"]] = None
            if len(clients) == limit:
                break
        return list(clients)

    def delete(self, entries: Iterable[OutboxEntry]) -> None:
        """See `Outbox.delete`: one request for each."""
        for entry in entries:
            with cosmos_errors():
                try:
                    self._container.delete_item(self._envelopes.document_id(OUTBOX, entry.seq), entry.client_id)
                except CosmosResourceNotFoundError:
                    continue  # somebody else published it, too

    def _across(self, text: str, limit: int | None, **parameters: Any) -> Iterable[dict[str, Any]]:
        documents = cosmos_query(self._container, text, None, page=limit or _PAGE, **parameters)
        return islice(documents, limit)

    def _load(self, client_id: str) -> Loaded:
        documents = {
            document["id"]: document
            for document in cosmos_query(
                self._container,
                "SELECT * FROM c WHERE c.id IN (@record, @announced)",
                client_id,
                page=2,
                record=self._record_id,
                announced=self._announced_id,
            )
        }
        record, announced = documents.get(self._record_id), documents.get(self._announced_id)
        return Loaded(
            record_from(record["body"]) if record else None,
            record["_etag"] if record else None,
            announced_from(announced["body"]) if announced else None,
            announced["_etag"] if announced else None,
        )

    def _commit(self, commit: Commit) -> Committed:
        client_id, loaded = commit.record.client_id, commit.loaded
        try:
            with cosmos_errors():
                # Built for this one call: the SDK takes conditions out of what it is given.
                results = self._container.execute_item_batch(self._operations(commit), client_id)
        except WriteConflictError:
            return None
        except StoreRefusedError as error:
            if not error.of_data:
                raise
            return error
        except OutcomeUnknownError:
            # Only this commit could have left exactly this record and this announcement state.
            found = self._load(client_id)
            told = loaded.announced if commit.announced is None else commit.announced
            return found if (found.record, found.announced) == (commit.record, told) else None
        told = commit.announced or loaded.announced
        tags = [str(result["eTag"]) for result in results[:2]]
        return Loaded(commit.record, tags[0], told, tags[1] if told else None)

    def _operations(self, commit: Commit) -> list[Any]:
        client_id, loaded = commit.record.client_id, commit.loaded
        record = self._envelopes.record(client_id, record_document(commit.record))
        operations = [_guarded(record, loaded.record_tag)]
        told = commit.announced or loaded.announced
        if told is not None:
            # Written even if it stays: that there is nothing to announce depends on it as well, and only a write is
            # refused when another generation announced in between.
            announced = self._envelopes.announced(client_id, announced_document(told))
            operations.append(_guarded(announced, loaded.announced_tag))
        operations += [("upsert", (self._envelopes.audit(client_id, audit_document(entry)),)) for entry in commit.audit]
        if commit.outbox is not None:
            outbox = self._envelopes.outbox(client_id, outbox_document(commit.outbox), utc_text(self._clock()))
            operations.append(("create", (outbox,)))
        return operations


def _guarded(document: Document, tag: str | None) -> Any:
    """The operation that writes a document only if it is still as it was loaded."""
    if tag is None:
        return "create", (document,)
    return "replace", (document["id"], document), {"if_match_etag": tag}


def _wanted(where: AuditFilter) -> str | None:
    """What `touched` of a wanted entry holds."""
    if where.field is None:
        return where.sub_schema
    return f"{where.sub_schema or ''}.{where.field}"
