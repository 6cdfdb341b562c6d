"""Request units by an estimate, and the meter that counts requests and units per kind of operation.

The model, to compare designs with, not to budget with (measure on a real account for that):

| Operation | Request units |
|---|---|
| Point read | 1 for the first KB, then 9/99 per KB (the published 1 RU at 1 KB, 10 RU at 100 KB) |
| Create, delete | 5 for the first KB, then 45/99 per KB (published: 5 at 1 KB, 50 at 100 KB), plus 0.1 per indexed value |
| Replace, upsert over a document | what the delete of the old and the create of the new document cost |
| Batch | the sum of its operations |
| Query | 2.3 per physical range it reads, plus 0.25 per KB and 0.03 per document it returns |
| Change feed | 1 per request, plus 0.25 per KB it returns |
| Refused (404, 409, 412, ...) | 1; refused by an injected fault or metadata: 0 |
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Self

_KB = 1024
REFUSED = 1.0


def read(size: int) -> float:
    """Units of a point read of `size` bytes."""
    return 1 + 9 / 99 * max(0.0, size / _KB - 1)


def write(size: int, indexed_values: int) -> float:
    """Units of storing, or removing, a document of `size` bytes."""
    return 5 + 45 / 99 * max(0.0, size / _KB - 1) + 0.1 * indexed_values


def query(ranges: int, documents: int, size: int) -> float:
    """Units of one page of a query."""
    return 2.3 * ranges + 0.03 * documents + 0.25 * size / _KB


def feed(size: int) -> float:
    """Units of one page of the change feed."""
    return 1 + 0.25 * size / _KB


@dataclass
class Usage:
    """Requests and request units per kind: read, create, replace, upsert, delete, batch, query, feed, metadata."""

    requests: Counter[str] = field(default_factory=Counter)
    request_units: Counter[str] = field(default_factory=Counter)

    @property
    def data_requests(self) -> Counter[str]:
        """Requests of every kind but metadata, which the SDK sends in the background too, at any time."""
        return Counter({kind: number for kind, number in self.requests.items() if kind != "metadata"})

    @property
    def total_request_units(self) -> float:
        """Request units of all kinds together."""
        return sum(self.request_units.values())

    def __sub__(self, other: Self) -> "Usage":
        return Usage(self.requests - other.requests, self.request_units - other.request_units)


class Meter(Usage):
    """Counts what reached the server, failed requests included."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def count(self, kind: str, charge: float) -> None:
        """Count one request."""
        with self._lock:
            self.requests[kind] += 1
            self.request_units[kind] += charge  # type: ignore[assignment]  # Counter is typed for whole numbers only

    def snapshot(self) -> Usage:
        """A copy of the present state; subtract an older one to see what happened between."""
        with self._lock:
            return Usage(self.requests.copy(), self.request_units.copy())

    @contextmanager
    def measure(self) -> Iterator[Usage]:
        """Yield a usage that holds, after the block, what the block cost."""
        cost, before = Usage(), self.snapshot()
        try:
            yield cost
        finally:
            delta = self.snapshot() - before
            cost.requests, cost.request_units = delta.requests, delta.request_units
