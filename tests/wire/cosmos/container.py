"""One container: its partitions and ranges, transactions on a partition, expiry, and splits."""

import base64
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from azure.cosmos.partition_key import PartitionKey

from tests.wire.cosmos.index import UNDEFINED, IndexingPolicy, dig, split_path
from tests.wire.cosmos.messages import CosmosError, Request, dump
from tests.wire.cosmos.storage import Change, Document, Partition, PhysicalRange

SYSTEM_PROPERTIES = frozenset({"_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"})
LARGEST_DOCUMENT = 2 * 1024 * 1024
_LONGEST_ID = 1023
_HASH_SPACE = 0x40 << 120  # version 2 hashes are 32 hexadecimal digits below 40...


@dataclass
class Settings:
    """What a test may set, also while the server runs.

    Attributes:
        ranges: Physical ranges of a new container.
        stale_writes: How many writes a read may lag behind, as far as its session token lets it; every read that lags
            brings the next one a write nearer, so that whoever reads again and again ends up with the latest state.
        partition_limit: Bytes that one logical partition may hold (the real limit is 20 GB).
        seed: Seed of the order in which the documents of one transaction leave the change feed.
        clock: Seconds since the epoch.
    """

    ranges: int
    stale_writes: int
    partition_limit: int
    seed: int
    clock: Callable[[], float]


class Transaction:
    """Writes to one logical partition that are stored together, under one LSN, or not at all."""

    def __init__(self, container: "Container", partition: Partition) -> None:
        self.container = container
        self.partition = partition
        self.lsn = partition.range.lsn + 1
        self._changes: list[Change] = []

    def find(self, document_id: str) -> Document | None:
        """The document as the transaction sees it."""
        return self.partition.documents.get(document_id)

    def put(self, body: dict[str, Any], before: Document | None) -> Document:
        """Store a document, new or in the place of another."""
        after = self.container.document(body, self.partition, before, self.lsn)
        growth = len(after.encoded) - (0 if before is None else len(before.encoded))
        if growth > 0 and self.partition.size + growth > self.container.settings.partition_limit:
            raise CosmosError(403, 1014, "Partition key reached maximum size of 20 GB.")
        self._record(Change(before, after))
        return after

    def remove(self, before: Document) -> None:
        """Delete a document."""
        self._record(Change(before, None))

    def commit(self) -> None:
        """Give the writes to readers and to the feed."""
        if not self._changes:
            return
        range_, settings = self.partition.range, self.container.settings
        range_.lsn = self.lsn
        written = [change.after for change in self._changes if change.after is not None and change.after.is_current]
        Random(f"{settings.seed}:{range_.id}:{self.lsn}").shuffle(written)
        range_.log.extend(written)
        range_.unreplicated.extend((self.lsn, change) for change in self._changes)
        range_.replicate(self.lsn - settings.stale_writes)
        for document in written:
            self.container.schedule_expiry(document)

    def roll_back(self) -> None:
        """Undo every write."""
        for before, after in reversed(self._changes):
            self.partition.swap(after, before)

    def _record(self, change: Change) -> None:
        self.partition.swap(change.before, change.after)
        self._changes.append(change)


class Container:
    """A container: its properties and everything stored in it."""

    def __init__(self, properties: dict[str, Any], rid: bytes, settings: Settings) -> None:
        self.settings = settings
        self.properties = properties
        self.policy = IndexingPolicy(properties["indexingPolicy"])
        self.rid = base64.b64encode(rid, b"+-").decode()
        self._rid = rid
        self._sequence = count(1)
        self._revision = count(1)
        self._expiry: list[tuple[float, int, Document]] = []
        self._partitions: dict[bytes, Partition] = {}
        self.key_paths = [split_path(path) for path in properties["partitionKey"]["paths"]]
        self._unique_keys = [
            [split_path(path) for path in key["paths"]] for key in properties["uniqueKeyPolicy"]["uniqueKeys"]
        ]
        cuts = [f"{_HASH_SPACE * number // settings.ranges:032X}" for number in range(1, settings.ranges)]
        edges = zip(["", *cuts], [*cuts, "FF"], strict=True)
        self.generation = 1
        self.ranges = {
            str(number): PhysicalRange(str(number), low, high, [], self.generation)
            for number, (low, high) in enumerate(edges)
        }

    def replace(self, properties: dict[str, Any]) -> None:
        """Take other properties; those that the service never changes must stay.

        Raises:
            CosmosError: 400 when the partition key or the unique keys differ.
        """
        for name in ("id", "partitionKey", "uniqueKeyPolicy"):
            if properties.get(name) != self.properties.get(name):
                raise CosmosError(400, message=f"{name} of a container cannot be changed.")
        self.policy = IndexingPolicy(properties["indexingPolicy"])
        self.properties = properties
        self._expiry.clear()
        for document in self.documents():
            document.expires_at = self._expires_at(document.body)
            document.indexed_values = self.policy.count(document.body)
            self.schedule_expiry(document)

    def documents(self) -> Iterator[Document]:
        """Yield every document, partition by partition."""
        for partition in self._partitions.values():
            yield from partition.documents.values()

    def key_of(self, body: dict[str, Any]) -> list[Any]:
        """The partition key of a document; `{}` stands for a missing value, as on the wire."""
        values = [dig(body, path) for path in self.key_paths]
        return [{} if value is UNDEFINED else value for value in values]

    def partition(self, key: list[Any]) -> Partition:
        """The logical partition of a key."""
        name = dump(key)
        if name not in self._partitions:
            definition = self.properties["partitionKey"]
            paths = definition["paths"] if definition["kind"] == "MultiHash" else definition["paths"][0]
            hasher = PartitionKey(path=paths, kind=definition["kind"], version=definition["version"])
            epk = str(hasher._get_effective_partition_key_string(key))
            home = next(range_ for range_ in self.ranges.values() if range_.low <= epk < range_.high)
            self._partitions[name] = Partition(key, epk, home, self._unique_keys)
            home.partitions.append(self._partitions[name])
        return self._partitions[name]

    def addressed_range(self, request: Request) -> PhysicalRange | None:
        """The range that a request names, None when it names none.

        Raises:
            CosmosError: 410 (1002) when the range was split.
        """
        range_id = request.headers.get("x-ms-documentdb-partitionkeyrangeid")
        if range_id is None:
            return None
        if range_id not in self.ranges:
            raise CosmosError(410, 1002, f"Partition key range {range_id} is gone.")
        return self.ranges[range_id]

    def split(self, range_id: str) -> list[str]:
        """Cut a range in the middle of its hashes; the children go on at the parent's LSN, with its log."""
        parent = self.ranges.pop(range_id)
        self.generation += 1
        low = int(parent.low or "0", 16)
        high = _HASH_SPACE if parent.high == "FF" else int(parent.high, 16)
        middle = f"{(low + high) // 2:032X}"
        first = max(int(known) for known in (*self.ranges, range_id, *parent.parents)) + 1
        children = []
        for number, (start, stop) in enumerate(((parent.low, middle), (middle, parent.high))):
            child = PhysicalRange(str(first + number), start, stop, [*parent.parents, range_id], self.generation)
            child.lsn, child.replica_lsn = parent.lsn, parent.replica_lsn
            child.log = [entry for entry in parent.log if start <= entry.partition.epk < stop]
            child.partitions = [partition for partition in parent.partitions if start <= partition.epk < stop]
            child.unreplicated.extend(item for item in parent.unreplicated if start <= item[1].name[0].epk < stop)
            for partition in child.partitions:
                partition.range = child
            self.ranges[child.id] = child
            children.append(child.id)
        return children

    @contextmanager
    def transaction(self, partition: Partition) -> Iterator[Transaction]:
        """Commit what the block writes, or roll it back when the block raises."""
        transaction = Transaction(self, partition)
        try:
            yield transaction
        except BaseException:
            transaction.roll_back()
            raise
        transaction.commit()

    def document(self, body: dict[str, Any], partition: Partition, before: Document | None, lsn: int) -> Document:
        """Make the next version of a document.

        Raises:
            CosmosError: 400 for an unfit id, partition key or ttl, 413 for a document above 2 MB.
        """
        user = {name: value for name, value in body.items() if name not in SYSTEM_PROPERTIES}
        document_id = user.get("id")
        if not isinstance(document_id, str) or not 0 < len(document_id.encode()) <= _LONGEST_ID:
            raise CosmosError(400, message="The id must be a non-empty string of at most 1023 bytes.")
        if any(character in document_id for character in "/\\?#"):
            raise CosmosError(400, message="The id must not contain / \\ ? #.")
        if self.key_of(user) != partition.key:
            raise CosmosError(400, 1001, "The partition key of the document and of the header differ.")
        sequence = next(self._sequence) if before is None else before.sequence
        rid = base64.b64encode(self._rid + sequence.to_bytes(8, "little"), b"+-").decode()
        now = int(self.settings.clock())
        user |= {
            "_rid": rid,
            "_self": f"{self.properties['_self']}docs/{rid}/",
            "_etag": f'"{self._rid.hex()}-{next(self._revision):08x}-{now:012x}"',
            "_attachments": "attachments/",
            "_ts": now,
        }
        encoded = dump(user)
        if len(encoded) > LARGEST_DOCUMENT:
            raise CosmosError(413)
        return Document(user, encoded, partition, sequence, lsn, self._expires_at(user), self.policy.count(user))

    def _expires_at(self, body: dict[str, Any]) -> float | None:
        default = self.properties.get("defaultTtl")
        seconds = body.get("ttl", default)
        if seconds is not None and (type(seconds) is not int or (seconds < 1 and seconds != -1)):
            raise CosmosError(400, message="ttl must be a positive integer or -1.")
        return None if default is None or seconds is None or seconds < 0 else body["_ts"] + seconds

    def schedule_expiry(self, document: Document) -> None:
        """Remember when a document ends."""
        if document.expires_at is not None:
            heapq.heappush(self._expiry, (document.expires_at, next(self._revision), document))

    def expire(self) -> None:
        """Remove what has outlived its ttl; the change feed does not tell."""
        now = self.settings.clock()
        while self._expiry and self._expiry[0][0] <= now:
            document = heapq.heappop(self._expiry)[2]
            if document.is_current:
                document.partition.swap(document, None)
