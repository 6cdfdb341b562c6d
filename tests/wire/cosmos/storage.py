"""What is stored: document versions in logical partitions, and the physical ranges that hold the partitions."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.wire.cosmos.index import UNDEFINED, Ordering, Path, SortedIndex, dig
from tests.wire.cosmos.messages import CosmosError, dump


@dataclass(eq=False, slots=True)
class Document:
    """One stored version of a document; `body` is never changed, a write stores another Document."""

    body: dict[str, Any]
    encoded: bytes
    partition: "Partition"
    sequence: int
    lsn: int
    expires_at: float | None
    indexed_values: int

    @property
    def id(self) -> str:
        """The document's id."""
        return str(self.body["id"])

    @property
    def etag(self) -> str:
        """The version mark of the document."""
        return str(self.body["_etag"])

    @property
    def is_current(self) -> bool:
        """Whether no later write or expiry took its place."""
        return self.partition.documents.get(self.id) is self


OlderVersions = dict[tuple["Partition", str], Document | None]
"""Documents by partition and id as they were at an LSN; None where there was none yet."""


class Change(NamedTuple):
    """One document before and after a write."""

    before: Document | None
    after: Document | None

    @property
    def name(self) -> tuple["Partition", str]:
        """Which document it is about."""
        document = self.after or self.before
        assert document is not None
        return document.partition, document.id


class Partition:
    """All documents with one partition key."""

    def __init__(
        self, key: list[Any], epk: str, physical_range: "PhysicalRange", unique_keys: list[list[Path]]
    ) -> None:
        self.key = key
        self.epk = epk
        self.range = physical_range
        self.documents: dict[str, Document] = {}
        self.size = 0
        self._unique_keys = unique_keys
        self._unique: dict[tuple[int, bytes], str] = {}
        self._indexes: dict[Ordering, SortedIndex] = {}

    def swap(self, before: Document | None, after: Document | None) -> None:
        """Put one version of a document in the place of another; the only way that a partition changes.

        Raises:
            CosmosError: 409 when a unique key is taken.
        """
        taken = [] if after is None else self._unique_values(after)
        if after is not None and any(self._unique.get(value, after.id) != after.id for value in taken):
            raise CosmosError(409, message="Unique index constraint violation.")
        if before is not None:
            del self.documents[before.id]
            self.size -= len(before.encoded)
            for value in self._unique_values(before):
                del self._unique[value]
        if after is not None:
            self.documents[after.id] = after
            self.size += len(after.encoded)
            self._unique.update(dict.fromkeys(taken, after.id))
        for index in self._indexes.values():
            if before is not None:
                index.discard(before)
            if after is not None:
                index.add(after)

    def index(self, ordering: Ordering) -> SortedIndex:
        """The documents in an order; built when first asked for, then kept up to date."""
        if ordering not in self._indexes:
            self._indexes[ordering] = SortedIndex(ordering, self.documents.values())
        return self._indexes[ordering]

    def _unique_values(self, document: Document) -> list[tuple[int, bytes]]:
        def value(path: Path) -> Any:
            found = dig(document.body, path)
            return None if found is UNDEFINED else found

        return [(number, dump([value(path) for path in paths])) for number, paths in enumerate(self._unique_keys)]


@dataclass(eq=False)
class PhysicalRange:
    """A slice of the hash space with its own LSN and feed log (in LSN order, with entries that are no longer current)."""

    id: str
    low: str
    high: str
    parents: list[str]
    generation: int
    lsn: int = 0
    replica_lsn: int = 0
    log: list[Document] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    unreplicated: deque[tuple[int, Change]] = field(default_factory=deque)

    def replicate(self, lsn: int) -> None:
        """Let the replica that serves readers without a session token catch up to an LSN."""
        self.replica_lsn = min(max(self.replica_lsn, lsn), self.lsn)
        while self.unreplicated and self.unreplicated[0][0] <= self.replica_lsn:
            self.unreplicated.popleft()

    def view(self, session: dict[str, int]) -> tuple[int, OlderVersions]:
        """The LSN that a reader sees, at least the one of its session token, and what it sees in place of newer writes."""
        known = max(session.get(name, 0) for name in (self.id, *self.parents))
        lsn = min(max(self.replica_lsn, known), self.lsn)
        older = {change.name: change.before for written, change in reversed(self.unreplicated) if written > lsn}
        if lsn < self.lsn:
            self.replicate(lsn + 1)
        return lsn, older

    def entries_after(self, lsn: int) -> Iterator[Document]:
        """Yield current documents in feed order, from the first one after an LSN."""
        for position in range(bisect_right(self.log, lsn, key=lambda document: document.lsn), len(self.log)):
            if self.log[position].is_current:
                yield self.log[position]
