"""What a container's indexing policy covers, and the sorted indexes that queries walk."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from functools import total_ordering
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from tests.wire.cosmos.messages import CosmosError

if TYPE_CHECKING:
    from tests.wire.cosmos.storage import Document

Path = tuple[str, ...]
Ordering = tuple[tuple[Path, bool], ...]
"""Properties to sort by, each with whether it descends; the first one always ascends (walk backwards otherwise)."""
Key = tuple[Any, ...]


class Undefined:
    """The value of a property that is not there."""


UNDEFINED: Final = Undefined()
_RANKS = {Undefined: 0, NoneType: 1, bool: 2, int: 4, float: 4, str: 5, list: 6, dict: 7}
DEFAULT_POLICY = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": '/"_etag"/?'}],
}


def dig(body: Any, path: Path) -> Any:
    """The value at a path, or UNDEFINED."""
    for name in path:
        if not isinstance(body, dict) or name not in body:
            return UNDEFINED
        body = body[name]
    return body


def rank(value: Any) -> int:
    """Place of the value's type in the order undefined, null, boolean, number, string, array, object."""
    return _RANKS[type(value)]


def sort_key(value: Any) -> tuple[int, Any]:
    """A key that sorts values of all types."""
    if value is None or value is UNDEFINED:
        return rank(value), 0
    return rank(value), orjson.dumps(value).decode() if isinstance(value, (list, dict)) else value


def split_path(path: str) -> Path:
    """`/a/"b c"/?` as ("a", "b c", "?")."""
    return tuple(quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^/]+)', path))


class IndexingPolicy:
    """Says which properties a query may filter and sort by."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self._consistent = policy.get("indexingMode", "consistent") == "consistent"
        rules = [(split_path(entry["path"]), True) for entry in policy.get("includedPaths", [])]
        rules += [(split_path(entry["path"]), False) for entry in policy.get("excludedPaths", [])]
        if self._consistent and ("*",) not in (path for path, _ in rules):
            raise CosmosError(400, message="The indexing policy must include or exclude the root path /*.")
        if any(path[-1:] not in {("*",), ("?",)} for path, _ in rules):
            raise CosmosError(400, message="Every included or excluded path must end with /* or /?.")
        self._rules = sorted(rules, key=lambda rule: (len(rule[0]), rule[0][-1] == "?"))  # the most precise comes last
        self._composites = {
            tuple((split_path(part["path"]), part.get("order", "ascending") == "descending") for part in composite)
            for composite in policy.get("compositeIndexes", [])
        }
        self._known: dict[Path, bool] = {}

    def covers(self, path: Path) -> bool:
        """Whether the value at a path is indexed."""
        if path not in self._known:
            self._known[path] = self._decide(path)
        return self._known[path]

    def covers_composite(self, order: Ordering) -> bool:
        """Whether a composite index serves ORDER BY over these properties, forwards or backwards."""
        return order in self._composites or tuple((path, not down) for path, down in order) in self._composites

    def count(self, value: Any, path: Path = ()) -> int:
        """Number of indexed values in a document."""
        if isinstance(value, dict):
            return sum(self.count(child, (*path, name)) for name, child in value.items())
        if isinstance(value, list):
            return sum(self.count(child, (*path, "[]")) for child in value)
        return self.covers(path)

    def _decide(self, path: Path) -> bool:
        if not self._consistent:
            return False
        covered = path in {("id",), ("_ts",)}
        for pattern, included in self._rules:
            *prefix, wildcard = pattern
            if path[: len(prefix)] == tuple(prefix) and (wildcard == "*" or len(path) == len(prefix)):
                covered = included or path in {("id",), ("_ts",)}
        return covered


@total_ordering
class Descending:
    """A sort key turned round."""

    def __init__(self, key: tuple[int, Any]) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and self.key == other.key

    def __lt__(self, other: "Descending") -> bool:
        return other.key < self.key

    def __hash__(self) -> int:
        return hash(self.key)


class Row(NamedTuple):
    """A document under its key in one index."""

    key: Key
    document: "Document"


def row(document: "Document", ordering: Ordering) -> Row:
    """The row of a document: sorted by the ordering, then by partition, then by age."""
    keys = (sort_key(dig(document.body, path)) for path, _ in ordering)
    parts = (Descending(key) if down else key for key, (_, down) in zip(keys, ordering, strict=True))
    return Row((*parts, document.partition.epk, document.sequence), document)


def key_to_json(key: Key) -> list[Any]:
    """A key for a continuation token."""
    return [part.key if isinstance(part, Descending) else part for part in key]


def key_from_json(parts: list[Any], ordering: Ordering) -> Key:
    """The key that `key_to_json` wrote."""
    keys = [Descending(tuple(part)) if down else tuple(part) for part, (_, down) in zip(parts, ordering, strict=False)]
    return (*keys, *parts[len(ordering) :])


class SortedIndex:
    """The documents of one logical partition in one order."""

    def __init__(self, ordering: Ordering, documents: Iterable["Document"]) -> None:
        self._ordering = ordering
        self._rows = sorted((row(document, ordering) for document in documents), key=lambda entry: entry.key)

    def add(self, document: "Document") -> None:
        """Put a document in its place."""
        insort(self._rows, row(document, self._ordering), key=lambda entry: entry.key)

    def discard(self, document: "Document") -> None:
        """Take a document out."""
        key = row(document, self._ordering).key
        del self._rows[bisect_left(self._rows, key, key=lambda entry: entry.key)]

    def position(self, value: Any, *, right: bool) -> int:
        """Where rows start (or, `right`, end) whose first property has this value."""
        bisect = bisect_right if right else bisect_left
        return bisect(self._rows, (sort_key(value),), key=lambda entry: entry.key[:1])

    def walk(self, slices: Sequence[tuple[int, int]], after: Key | None, *, backwards: bool) -> Iterator[Row]:
        """Yield the rows of ascending position slices that come after a key, in either direction."""
        first, last = 0, len(self._rows)
        if after is not None and backwards:
            last = bisect_left(self._rows, after, key=lambda entry: entry.key)
        elif after is not None:
            first = bisect_right(self._rows, after, key=lambda entry: entry.key)
        for start, stop in reversed(slices) if backwards else slices:
            positions = range(max(start, first), min(stop, last))
            for position in reversed(positions) if backwards else positions:
                yield self._rows[position]

    def __len__(self) -> int:
        return len(self._rows)
