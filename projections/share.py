"""Shares: equal parts of all clients, each worked on by one process.

All clients are on a line: those of the first partition of the directory come first, and within a partition a client's
place is a hash of its id. A share is a stretch of the line. So most partitions lie in one share as a whole; a partition
that no client is wanted of need not be listed, and only those in which a stretch begins or ends are listed more than once.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

_PLACES = 2**32  # of each partition


class Part(NamedTuple):
    """What a share has of one partition: the clients in some of its places.

    Attributes:
        partition: its name.
        first: the first of the places.
        end: the place behind the last.
    """

    partition: str
    first: int
    end: int

    def holds(self, client_id: str) -> bool:
        """Whether a client of the partition is in it."""
        return self.first <= int.from_bytes(sha256(client_id.encode()).digest()[:4]) < self.end

    def listed_for(self, clients: int) -> int:
        """How many clients of the partition are to be listed, on average, to find so many that are in it."""
        return clients * _PLACES // (self.end - self.first)


class Share(NamedTuple):
    """One of several equal parts of all clients: `Share(1, 4)` is the first of four."""

    number: int
    of: int

    def parts(self, partitions: Sequence[str]) -> Iterator[Part]:
        """What it has of each partition, without those of which it has nothing.

        Args:
            partitions: all of them, in the same order for each share.
        """
        places = len(partitions) * _PLACES
        bounds = [number * places // self.of for number in (self.number - 1, self.number)]
        for number, partition in enumerate(partitions):
            first, end = (min(max(bound - number * _PLACES, 0), _PLACES) for bound in bounds)
            if first < end:
                yield Part(partition, first, end)
