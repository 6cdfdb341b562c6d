"""What the projections need from a database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from eventstore import StoreRefusedError

from .documents import Document, object_in
from .passed import Passed
from .record import Announced, AuditEntry, OutboxEntry, Record


class Loaded(NamedTuple):
    """A client's record and announcement state with the tags that guard the next commit.

    Attributes:
        record: None if this generation has none yet.
        record_tag: changes with every write of the record; None if there is none.
        announced: None if nothing was ever announced.
        announced_tag: changes with every write of it; None if there is none.
    """

    record: Record | None
    record_tag: str | None
    announced: Announced | None
    announced_tag: str | None


class Commit(NamedTuple):
    """What becomes visible together, if record and announcement state are still as loaded.

    Attributes:
        loaded: what it builds on.
        record: the new record.
        audit: entries of the events between the two.
        announced: new announcement state; None leaves it.
        outbox: the announcement to publish, if there is one.
    """

    loaded: Loaded
    record: Record
    audit: Sequence[AuditEntry] = ()
    announced: Announced | None = None
    outbox: OutboxEntry | None = None


Committed = Loaded | StoreRefusedError | None
"""What became of a commit: what the next one can build on; why the database will never take it, as it is too large, say;
or None if it was lost, because the client changed since it was loaded."""


class Served(NamedTuple):
    """A record and the projection version under which it is kept."""

    projection_version: int
    record: Record


def newest_of(records: Iterable[tuple[int, Record]]) -> Served | None:
    """The record to serve of those in several generations: the highest version, the newer generation on a tie."""
    served = (Served(*each) for each in records)
    return max(served, key=lambda each: (each.record.version, each.projection_version), default=None)


class ProjectionStore(Protocol):
    """Records, audit and outbox of one projection, in the generation of its version.

    Attributes:
        group: how many clients are best loaded and committed together (1 where a transaction holds one client only).
    """

    group: int

    def load(self, client_ids: Sequence[str]) -> Mapping[str, Loaded]:
        """The present state of each client."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        """Make each commit visible as a whole or not at all; at most one for each client.

        Returns:
            What became of each.

        Raises:
            StoreUnavailableError: the database is out of reach.
            StoreRefusedError: it refuses the caller, whatever the commit.
        """

    def newest(self, client_id: str) -> Served | None:
        """Of the generations up to this one, the record with the highest version, the newer generation on a tie.

        Code with a new version thus serves what its predecessor knows until it has folded the client itself, and never
        goes back.
        """

    def parked(self, *, after: str = "", limit: int = 100) -> Sequence[Record]:
        """Parked clients by ascending client id."""

    def client_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids of the clients that have a record, ascending."""


class Predecessors(Protocol):
    """What the generations before that of a projection's version left."""

    def passed(self, client_ids: Sequence[str]) -> Mapping[str, Passed]:
        """How far they are; clients without a record there are left out."""

    def owners(self, *, audit: bool, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Clients with a record there, or with `audit` those with a record or audit entries, by ascending client id."""

    def remove(self, client_ids: Sequence[str], *, audit: bool) -> int:
        """Remove their records, with `audit` their audit entries as well; a removal that is cut off can be repeated.

        Returns:
            How many documents were removed.
        """


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries of a client's audit trail are wanted; None is any.

    Attributes:
        sub_schema: entries that changed this sub-schema, or tried to.
        field: entries that changed this field (of `sub_schema`, if both are given).
        event_type: entries of this event type.
        source: entries of events from this system.
        since: recorded at this time or later, in UTC text form.
        until: recorded before this time, in UTC text form.
    """

    sub_schema: str | None = None
    field: str | None = None
    event_type: str | None = None
    source: str | None = None
    since: str | None = None
    until: str | None = None


class AuditLog(Protocol):
    """The audit trail, read from the partition of one client."""

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
        """Matching entries with `after < version <= until`, by ascending version, at most `limit`.

        Args:
            client_id: text of the client id.
            where: which entries.
            after: versions up to this one are left out.
            until: the last version; None is all.
            limit: at most so many.
            projection_version: the generation whose trail is read; None is the store's own.
        """


class Outbox(Protocol):
    """Announcements that still have to be published."""

    def pending(self, client_id: str) -> Sequence[OutboxEntry]:
        """A client's entries by ascending seq."""

    def waiting(self, *, older_than: str | None = None, limit: int = 1000) -> Sequence[str]:
        """Clients with entries, those that wait longest first.

        Args:
            older_than: only entries written before this time, in UTC text form; None is all.
            limit: at most so many clients.
        """

    def delete(self, entries: Iterable[OutboxEntry]) -> None:
        """Forget entries that were published; those already gone do not matter."""


RECORD: Final = "record"
ANNOUNCED: Final = "announced"
AUDIT: Final = "audit"
OUTBOX: Final = "outbox"


class StoredDocument(NamedTuple):
    """A document of a client as it lies in the database, whatever state it is in.

    Attributes:
        kind: `RECORD`, `ANNOUNCED`, `AUDIT` or `OUTBOX`.
        number: version of an audit entry, seq of an outbox entry, 0 for the others.
        text: its JSON.
        tag: changes with every write of it.
        beside: names of fields beside the body, kept for searching, that are not what the body says.
    """

    kind: str
    number: int
    text: str
    tag: str
    beside: tuple[str, ...] = ()

    @property
    def body(self) -> Document:
        """The JSON object, in the form of `documents.py` if nothing is wrong; empty if the text is none."""
        return object_in(self.text)


class Mend(NamedTuple):
    """One document to be written or removed, if it is still as it was seen.

    Attributes:
        kind: as in `StoredDocument`.
        number: likewise.
        body: what it shall hold; None removes it.
        seen: tag of the document to be replaced or removed; None if there was none.
    """

    kind: str
    number: int
    body: Document | None
    seen: str | None


class DocumentStore(Protocol):
    """The documents of single clients in the generation of a projection's version, for checking and mending."""

    def documents(self, client_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDocument]]:
        """Record, announcement state and outbox entries by ascending seq, of each client."""

    def audit_documents(self, client_id: str) -> Iterator[StoredDocument]:
        """Audit entries by ascending version, fetched in pages as they are used."""

    def mend(self, client_id: str, mends: Sequence[Mend]) -> bool:
        """Write and remove, leaving every other document untouched; in portions, each as a whole or not at all.

        Returns:
            Whether all was done; False if a document was not as it had been seen, and it and later ones were left.
        """

    def owners(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Clients that have any document here, by ascending client id."""
