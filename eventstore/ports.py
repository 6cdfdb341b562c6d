"""What the event store offers, whatever database is behind it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

from .events import EventData, RecordedEvent, StreamHead


class _Any(Enum):
    ANY = "any"


ANY: Final = _Any.ANY
"""Expected version of a caller to whom the present version does not matter."""
NO_STREAM: Final = 0
"""Expected version of a client without events."""

ExpectedVersion = int | Literal[_Any.ANY]


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append.

    Attributes:
        events: the events as stored, in the order of the call.
        duplicates: ids of those that had been stored before and were left as they were.
    """

    events: tuple[RecordedEvent, ...]
    duplicates: frozenset[str]

    @property
    def version(self) -> int:
        """The highest version among the events of the call."""
        return max(event.version for event in self.events)


class EventStore(Protocol):
    """Streams of events, one for each client."""

    def append(self, client_id: str, events: Sequence[EventData], *, expected_version: ExpectedVersion) -> Appended:
        """Store events at the end of a client's stream, all or none; a repeat changes nothing.

        Events whose id is already stored with the same type and data are returned as they are stored; the rest is
        appended. `expected_version` is checked against the rest only, so a repeated call succeeds like the first.

        Args:
            client_id: text of a `ClientId`.
            events: 1 to 100, at most 1 MB together.
            expected_version: `ANY`, `NO_STREAM` or the version the stream must be at.

        Raises:
            InvalidClientIdError: the text is no client id.
            InvalidEventError: none, too many, too large, or one event id twice.
            EventIdReusedError: an id is stored with other content.
            WrongExpectedVersionError: the stream is at another version.
            HistoryForkedError: the last event of the stream is damaged, so nothing can follow it.
            ContentionError: other writers won every round.
            StoreUnavailableError: the database is locked, full or out of reach.
        """

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """A client's events with `after < version <= until`, in order, fetched in pages as they are used.

        Raises:
            InvalidClientIdError: the text is no client id.
            HistoryForkedError: what is stored at the next version is no event any more.
            StoreUnavailableError: the database is out of reach.
        """

    def head(self, client_id: str) -> StreamHead:
        """The end of a client's stream; `EMPTY_STREAM` if it has none.

        Raises:
            InvalidClientIdError: the text is no client id.
            StoreUnavailableError: the database is out of reach.
        """

    def foreign(self, client_id: str) -> Sequence[str]:
        """Ids of documents that lie among a client's events and are none; no other method takes them for events.

        Raises:
            InvalidClientIdError: the text is no client id.
            StoreUnavailableError: the database is out of reach.
        """


class ForeignDocument(NamedTuple):
    """Something that lies among the events and is none, as when somebody wrote it by hand.

    Attributes:
        client_id: whose events; None if it names no client.
        id: of the document.
    """

    client_id: str | None
    id: str


class FeedPage(NamedTuple):
    """Events read from the change feed and the cursor that continues after them.

    Inside one transaction the order of events is not guaranteed: sort by version. `events` is empty when there is
    nothing new. `foreign` is what lay between them and was passed over.
    """

    events: Sequence[RecordedEvent]
    cursor: str
    foreign: Sequence[ForeignDocument] = ()


class ChangeFeed(Protocol):
    """All events of all clients, as they were appended."""

    def partitions(self) -> Sequence[str]:
        """Names of the parts that are read side by side, each with a cursor of its own."""

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        """The next events of a partition.

        Args:
            partition: one of `partitions()`.
            after: cursor of the page before; None starts at the first event ever.
            limit: wanted number of events; a transaction is not cut, so a page can exceed it.
        """


class ClientPage(NamedTuple):
    """Clients found in a directory and the cursor that continues after them.

    Attributes:
        client_ids: each once; may be empty although there is more.
        cursor: continues after them; None at the end.
    """

    client_ids: Sequence[str]
    cursor: str | None


class ClientDirectory(Protocol):
    """All clients that have events, in the partitions of the change feed."""

    def partitions(self) -> Sequence[str]:
        """Names of the parts that are read side by side; a client stays in one of them."""

    def clients(self, partition: str, *, after: str | None, limit: int) -> ClientPage:
        """The next clients of a partition, in an order that never changes.

        Clients that were there when the first page was read are all found. Those that appear while pages are read may
        be missing: the change feed tells of them.

        Args:
            partition: one of `partitions()`.
            after: cursor of the page before, however long ago; None starts at the beginning.
            limit: at most so many.

        Raises:
            StoreUnavailableError: the database is out of reach.
        """

    def known(self, client_ids: Sequence[str]) -> Collection[str]:
        """Those of these clients that are in one of the partitions.

        Raises:
            StoreUnavailableError: the database is out of reach.
        """

    def count_clients(self, partition: str) -> int:
        """How many clients a partition has.

        Raises:
            StoreUnavailableError: the database is out of reach.
        """


class CheckpointStore(Protocol):
    """Durable cursors by name."""

    def load(self, name: str) -> str | None:
        """The stored cursor, None if there is none yet."""

    def save(self, name: str, cursor: str) -> None:
        """Store the cursor, in place of an earlier one."""

    def create(self, name: str, cursor: str) -> str:
        """Store the cursor unless there is one; of several callers at once, one is first.

        Returns:
            The cursor that is stored.
        """


class Rejection(NamedTuple):
    """Something a source delivered that could not become events, kept until it is replayed or dismissed.

    Attributes:
        number: assigned by the store, ascending.
        source: the system that delivered it.
        key: the event key, if it got as far as having one, or the position in the input (`line 7`).
        rejected_at: when, in UTC text form.
        code: stable short name of the reason.
        problems: `path: problem` for each field concerned; no values.
        payload: what was delivered, as received.
    """

    number: int
    source: str
    key: str | None
    rejected_at: str
    code: str
    problems: tuple[str, ...]
    payload: bytes


class RejectionStore(Protocol):
    """Rejections until they are dealt with."""

    def add(self, rejections: Iterable[Rejection]) -> None:
        """Keep them, numbered anew; one that is open with the same source, key and payload is not kept twice."""

    def open(self, *, source: str | None = None, after: int = 0, limit: int = 100) -> Sequence[Rejection]:
        """Open rejections by ascending number, those of one source if given."""

    def get(self, number: int) -> Rejection:
        """One open rejection.

        Raises:
            RejectionNotFoundError: it does not exist or was dealt with.
        """

    def resolve(self, number: int) -> None:
        """Mark a rejection as dealt with and delete its payload.

        Raises:
            RejectionNotFoundError: it does not exist or was dealt with.
        """
