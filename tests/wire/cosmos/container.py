"""One container: its partitions, the physical ranges they are in, transactions on a partition, and what readers see."""

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from random import Random
from typing import Any

import orjson
from azure.cosmos.partition_key import PartitionKey

from tests.wire.cosmos.messages import CosmosError, Request
from tests.wire.cosmos.partition import Document, Partition
from tests.wire.cosmos.values import UNDEFINED, IndexingPolicy, dig, split_path

SYSTEM_PROPERTIES = frozenset({"_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"})
LARGEST_DOCUMENT = 2 * 1024 * 1024
_HASH_SPACE = 0x40 << 120  # version 2 hashes are 32 hexadecimal digits below 40...


def resource_id(parent: str, number: int, length: int) -> str:
    """An id in the form that the SDK recognizes: the bytes of the parent's id and so many more, in base64."""
    return base64.b64encode(base64.b64decode(parent, b"+-") + number.to_bytes(length, "big"), b"+-").decode()


@dataclass
class Settings:
    """What a test may set, also while the server runs.

    Attributes:
        ranges: Physical ranges of a new container.
        stale_writes: How many writes a read may lag behind, as far as its session token lets it; every read that lags
            brings the next one a write nearer, so that whoever reads again and again ends up with the latest state.
        partition_limit: Bytes that one logical partition may hold (the real limit is 20 GB).
    """

    ranges: int
    stale_writes: int
    partition_limit: int


@dataclass(frozen=True)
class PhysicalRange:
    """A slice of the hash space: the hashes from `low` up to, but without, `high`; and of which ranges it is a part."""

    id: str
    start: int
    stop: int
    parents: tuple[str, ...]
    generation: int

    @cached_property
    def low(self) -> str:
        """The start as a hash is written."""
        return f"{self.start:032X}" if self.start else ""

    @cached_property
    def high(self) -> str:
        """The stop as a hash is written."""
        return f"{self.stop:032X}" if self.stop < _HASH_SPACE else "FF"


Write = Callable[[Document | None, Document | None], None]
"""Puts a version of a document in the place of another; None stands for no document."""


class Container:
    """A container: its properties and everything stored in it.

    Attributes:
        generation: Grows with every split.
        lsn: Number of the latest transaction.
        log: Every document version in the order of the change feed.
    """

    def __init__(self, properties: dict[str, Any], settings: Settings) -> None:
        self.settings = settings
        self.properties = properties
        self.policy = IndexingPolicy(properties["indexingPolicy"])
        self.rid: str = properties["_rid"]
        (key_path,) = properties["partitionKey"]["paths"]
        self.key_path = split_path(key_path)
        self._hasher = PartitionKey(key_path)
        self._unique_keys = [
            [split_path(path) for path in key["paths"]] for key in properties["uniqueKeyPolicy"]["uniqueKeys"]
        ]
        cuts = pairwise(_HASH_SPACE * number // settings.ranges for number in range(settings.ranges + 1))
        self.generation = 1
        self.ranges = {str(number): PhysicalRange(str(number), *cut, (), 1) for number, cut in enumerate(cuts)}
        self.partitions: dict[bytes, Partition] = {}
        self.lsn = 0
        self.log: list[Document] = []
        self._replica_lsn = 0
        self._sequence = count(1)
        self._revision = count(1)

    def replace(self, properties: dict[str, Any]) -> None:
        """Take other properties; those that the service never changes must stay.

        Raises:
            CosmosError: 400 when the partition key or the unique keys differ.
        """
        for name in ("partitionKey", "uniqueKeyPolicy"):
            if properties[name] != self.properties[name]:
                raise CosmosError(400, message=f"{name} of a container cannot be changed.")
        self.policy = IndexingPolicy(properties["indexingPolicy"])
        self.properties = properties

    def partition(self, key: list[Any]) -> Partition:
        """The logical partition of a key."""
        name = orjson.dumps(key)
        if name not in self.partitions:
            epk = str(self._hasher._get_effective_partition_key_string(key))
            self.partitions[name] = Partition(key, epk, self._unique_keys)
        return self.partitions[name]

    def addressed(self, request: Request) -> list[tuple[PhysicalRange, str, str]]:
        """The range that a request names, or all; with the first hash that is meant in each, and the one behind the last.

        Raises:
            CosmosError: 410 (1002) when the range was split.
        """
        range_id = request.headers.get("x-ms-documentdb-partitionkeyrangeid")
        if range_id is not None and range_id not in self.ranges:
            raise CosmosError(410, 1002, f"Partition key range {range_id} is gone.")
        low, high = request.headers.get("x-ms-start-epk", ""), request.headers.get("x-ms-end-epk", "FF")
        ranges = self.ranges.values() if range_id is None else [self.ranges[range_id]]
        return [(range_, max(low, range_.low), min(high, range_.high)) for range_ in ranges]

    def range_of(self, partition: Partition) -> PhysicalRange:
        """The range that a partition is in."""
        return next(range_ for range_ in self.ranges.values() if range_.low <= partition.epk < range_.high)

    def split(self, range_id: str) -> list[str]:
        """Cut a range in the middle of its hashes."""
        parent = self.ranges.pop(range_id)
        self.generation += 1
        parents = (*parent.parents, range_id)
        first = max(map(int, (*self.ranges, *parents))) + 1
        for number, cut in enumerate(pairwise([parent.start, (parent.start + parent.stop) // 2, parent.stop]), first):
            self.ranges[str(number)] = PhysicalRange(str(number), *cut, parents, self.generation)
        return [str(first), str(first + 1)]

    @contextmanager
    def transaction(self, partition: Partition) -> Iterator[Write]:
        """Commit what the block writes, under one LSN, or roll it back when the block raises."""
        changes: list[tuple[Document | None, Document | None]] = []

        def write(before: Document | None, after: Document | None) -> None:
            growth = (len(after.encoded) if after else 0) - (len(before.encoded) if before else 0)
            if growth > 0 and partition.size + growth > self.settings.partition_limit:
                raise CosmosError(403, 1014, "Partition key reached maximum size of 20 GB.")
            partition.swap(before, after)
            changes.append((before, after))

        if self.settings.stale_writes:
            partition.history.append((self.lsn, partition.documents.copy()))
        try:
            yield write
        except BaseException:
            for before, after in reversed(changes):
                partition.swap(after, before)
            raise
        self.lsn += 1
        written = [after for _, after in changes if after is not None and after.is_current]
        Random(self.lsn).shuffle(written)  # the feed promises no order within a transaction
        self.log.extend(written)
        self._replica_lsn = max(self._replica_lsn, self.lsn - self.settings.stale_writes)

    def view(self, range_: PhysicalRange, session: dict[str, int]) -> int:
        """The LSN up to which a reader sees a range: at least the one of its session token."""
        known = max(session.get(name, 0) for name in (range_.id, *range_.parents))
        lsn = min(max(self._replica_lsn, known), self.lsn)
        if lsn < self.lsn:
            self._replica_lsn = lsn + 1
        return lsn

    def document(self, body: dict[str, Any], partition: Partition, before: Document | None) -> Document:
        """Make the next version of a document.

        Raises:
            CosmosError: 400 for an unfit id or partition key, 413 for a document above 2 MB.
        """
        user = {name: value for name, value in body.items() if name not in SYSTEM_PROPERTIES}
        if not re.fullmatch(rb"[^/\\?#]{1,1023}", user["id"].encode()):
            raise CosmosError(400, message="The id must be a string of 1 to 1023 bytes, without / \\ ? #.")
        found = dig(user, self.key_path)
        if partition.key != [{} if found is UNDEFINED else found]:  # {} stands for a missing value, as on the wire
            raise CosmosError(400, 1001, "The partition key of the document and of the header differ.")
        sequence = next(self._sequence) if before is None else before.sequence
        rid = resource_id(self.rid, sequence, 8)
        user |= {
            "_rid": rid,
            "_self": f"{self.properties['_self']}docs/{rid}/",
            "_etag": f'"{self.rid}-{next(self._revision):025x}"',
            "_attachments": "attachments/",
            "_ts": int(time.time()),
        }
        encoded = orjson.dumps(user)
        if len(encoded) > LARGEST_DOCUMENT:
            raise CosmosError(413)
        return Document(user, encoded, partition, sequence, self.lsn + 1)
