"""One logical partition: its documents, its unique keys, and the sorted indexes that queries walk."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.wire.cosmos.messages import CosmosError
from tests.wire.cosmos.values import UNDEFINED, Path, dig, sort_key

Key = tuple[Any, ...]
"""(sort key, hash of the partition key, sequence): a document's place in an index; a bound of a span may be shorter."""
Span = tuple[Key, Key]
"""A stretch of an index, from the first key up to, but without, the second."""


@dataclass(eq=False, slots=True)
class Document:
    """One stored version of a document; `body` is never changed, a write stores another Document.

    Attributes:
        sequence: Place among the documents of its container, by age; all versions of a document have the same.
        lsn: Number of the transaction that stored this version.
    """

    body: dict[str, Any]
    encoded: bytes
    partition: "Partition"
    sequence: int
    lsn: int

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
        """Whether no later write took its place."""
        return self.partition.documents.get(self.id) is self


Row = tuple[Key, Document]


class Partition:
    """All documents with one partition key.

    Attributes:
        key: The partition key, in a list as on the wire.
        epk: Its hash, which says in which physical range the partition is.
        size: Bytes of all documents.
        history: The documents by id as they were up to an LSN, noted before a write that readers may not see at once.
    """

    def __init__(self, key: list[Any], epk: str, unique_keys: list[list[Path]]) -> None:
        self.key = key
        self.epk = epk
        self.documents: dict[str, Document] = {}
        self.size = 0
        self.history: list[tuple[int, dict[str, Document]]] = []
        self._unique_keys = unique_keys
        self._unique: dict[tuple[int, bytes], str] = {}
        self._indexes: dict[Path, Index] = {}

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
            index.swap(before, after)

    def documents_at(self, lsn: int) -> dict[str, Document]:
        """The documents by id, as they were at an LSN that a reader may still see."""
        return next((earlier for last, earlier in self.history if last >= lsn), self.documents)

    def index(self, path: Path, lsn: int) -> "Index":
        """The documents in the order of a property, as they were at an LSN.

        The index of the present state is built when it is first asked for, and then kept up to date.
        """
        documents = self.documents_at(lsn)
        if documents is not self.documents:
            return Index(path, documents.values())
        if path not in self._indexes:
            self._indexes[path] = Index(path, documents.values())
        return self._indexes[path]

    def _unique_values(self, document: Document) -> list[tuple[int, bytes]]:
        def value(path: Path) -> Any:
            found = dig(document.body, path)
            return None if found is UNDEFINED else found

        return [
            (number, orjson.dumps([value(path) for path in paths])) for number, paths in enumerate(self._unique_keys)
        ]


class Index:
    """Documents of one partition, sorted by one property and then by age; by age alone for the empty path."""

    def __init__(self, path: Path, documents: Iterable[Document]) -> None:
        self._path = path
        self._documents = {self._key(document): document for document in documents}
        self._keys = sorted(self._documents)

    def swap(self, before: Document | None, after: Document | None) -> None:
        """Follow a change of the partition."""
        if before is not None:
            key = self._key(before)
            del self._keys[bisect_left(self._keys, key)]
            del self._documents[key]
        if after is not None:
            key = self._key(after)
            insort(self._keys, key)
            self._documents[key] = after

    def walk(self, spans: list[Span], *, backwards: bool) -> Iterator[Row]:
        """Yield what is in ascending spans, in either direction."""
        for low, high in reversed(spans) if backwards else spans:
            places = range(bisect_left(self._keys, low), bisect_left(self._keys, high))
            for place in reversed(places) if backwards else places:
                key = self._keys[place]
                yield key, self._documents[key]

    def _key(self, document: Document) -> Key:
        value = dig(document.body, self._path) if self._path else UNDEFINED
        return sort_key(value), document.partition.epk, document.sequence
