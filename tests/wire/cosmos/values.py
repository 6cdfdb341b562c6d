"""JSON values as an index sees them: where they are in a document, how they are ordered, and which of them it holds."""

from types import NoneType
from typing import Any, Final

import orjson

from tests.wire.cosmos.messages import not_served

Path = tuple[str, ...]
SortKey = tuple[int, Any]
"""Place of a value's type in the order undefined, null, boolean, number, string, array, object; and its place there."""


UNDEFINED: Final = object()
"""The value of a property that is not there."""
_RANKS = {object: 0, NoneType: 1, bool: 2, int: 4, float: 4, str: 5, list: 6, dict: 7}
DEFAULT_POLICY = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": '/"_etag"/?'}],
}


def split_path(path: str) -> Path:
    """`/a/b` as ("a", "b")."""
    return tuple(path.split("/")[1:])


def dig(body: Any, path: Path) -> Any:
    """The value at a path, or UNDEFINED."""
    for name in path:
        if not isinstance(body, dict) or name not in body:
            return UNDEFINED
        body = body[name]
    return body


def sort_key(value: Any) -> SortKey:
    """A key that sorts values of all types."""
    rank = _RANKS[type(value)]
    if rank <= 1:  # there is one undefined and one null
        return rank, 0
    return rank, orjson.dumps(value).decode() if rank >= 6 else value


class IndexingPolicy:
    """Says which properties a query may filter and sort by: those that are included by name, or all.

    Raises:
        CosmosError: 400 for a policy of another form.
    """

    def __init__(self, policy: dict[str, Any]) -> None:
        included, excluded = (
            {entry["path"] for entry in policy.get(f"{kind}Paths", [])} for kind in ("included", "excluded")
        )
        self._all = policy == DEFAULT_POLICY
        if not self._all and (excluded != {"/*"} or not all(path.endswith("/?") for path in included)):
            raise not_served(
                f"an indexing policy other than the default, or included paths with an excluded root: {policy}"
            )
        self._paths = {split_path(path)[:-1] for path in included} | {("id",), ("_ts",)}

    def covers(self, path: Path) -> bool:
        """Whether the value at a path is indexed."""
        return path != ("_etag",) if self._all else path in self._paths

    def count(self, body: dict[str, Any]) -> int:
        """Number of indexed values in a document."""
        if self._all:
            return _scalars(body) - 1  # all but the etag
        return sum(0 < _RANKS[type(value)] < 6 for path in self._paths for value in _values_at(body, path))


def _values_at(body: dict[str, Any], path: Path) -> list[Any]:
    """The value at a path, or all members of the array there if the path ends with []."""
    if path[-1] != "[]":
        return [dig(body, path)]
    array = dig(body, path[:-1])
    return array if isinstance(array, list) else []


def _scalars(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(_scalars, value.values() if isinstance(value, dict) else value))
    return 1
