"""Shares of the work of a rebuild: who takes which clients, and what is listed for that."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    NO_STREAM,
    ClientPage,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    StoreUnavailableError,
)
from projections import Progress, Projector, Rebuild, Share, Target
from tests.support.clients import Graded, clients, fact
from tests.support.cosmos import Containers
from tests.support.generations import louder
from tests.support.interposing import Interposed
from tests.support.projecting import World
from tests.wire.cosmos import CosmosServer

PEOPLE = [str(number) for number in range(60)]


@given(st.integers(1, 40), st.integers(1, 200), st.lists(st.text(), max_size=5))
def test_every_client_is_in_exactly_one_share(partitions: int, shares: int, client_ids: list[str]) -> None:
    """Whatever the numbers of partitions and shares; and no share has nothing to do."""
    names = [f"partition {number}" for number in range(partitions)]
    parts = [list(Share(number + 1, shares).parts(names)) for number in range(shares)]
    assert all(parts)
    for name in names:
        for client_id in client_ids:
            assert sum(part.holds(client_id) for share in parts for part in share if part.partition == name) == 1


@given(st.integers(1, 12), st.integers(1, 12))
def test_what_comes_out_even_is_taken_whole(shares: int, each: int) -> None:
    """A partition lies in one share; of the others it is not listed."""
    names = [f"partition {number}" for number in range(shares * each)]
    for number in range(shares):
        parts = list(Share(number + 1, shares).parts(names))
        assert [part.partition for part in parts] == names[number * each : (number + 1) * each]
        assert {part.listed_for(100) for part in parts} == {100}


@given(st.integers(1, 40), st.integers(1, 200))
def test_only_the_ends_of_a_share_are_parts_of_partitions(partitions: int, shares: int) -> None:
    """So a partition is listed by as many processes as there are shares that begin or end in it, and one."""
    names = [f"partition {number}" for number in range(partitions)]
    for number in range(shares):
        parts = list(Share(number + 1, shares).parts(names))
        assert {part.listed_for(100) for part in parts[1:-1]} <= {100}
        assert all(100 <= part.listed_for(100) <= 100 * shares + 100 for part in parts)


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


class Listed:
    """The events on three ranges of Cosmos DB, and what listing their clients costs; records are on this machine.

    Attributes:
        requests: by partition, how many requests listing its clients took.
    """

    def __init__(self, server: CosmosServer, containers: Containers, directory: Path) -> None:
        events = containers.open(EVENTS_CONTAINER)
        self.events = CosmosEventStore(events)
        self._feed = CosmosChangeFeed(events, CosmosCheckpointStore(containers.open(INTAKE_CONTAINER)))
        self._server, self._directory = server, directory
        self.requests: Counter[str] = Counter()

    def partitions(self) -> Sequence[str]:
        return self._feed.partitions()

    def known(self, client_ids: Sequence[str]) -> Collection[str]:
        return self._feed.known(client_ids)

    def count_clients(self, partition: str) -> int:
        return self._feed.count_clients(partition)

    def clients(self, partition: str, *, after: str | None, limit: int) -> ClientPage:
        with self._server.meter.measure() as used:
            page = self._feed.clients(partition, after=after, limit=limit)
        self.requests[partition] += used.data_requests.total()
        return page

    def project(self) -> None:
        """Each client has an event, which version 1 projected."""
        with closing(World(self._directory)) as old:
            for client_id in PEOPLE:
                stored = self.events.append(client_id, [fact(Graded(segment="a"))], expected_version=NO_STREAM)
                Projector(clients, self.events, old.store).catch_up(client_id, Target(1, stored.events))

    def walk(self, new: World, share: Share, *, dying: bool = False) -> Iterator[Progress]:
        """Work through a share; dies at the second commit if told to."""
        commits = count(1)

        def die() -> None:
            if dying and next(commits) == 2:
                raise StoreUnavailableError("killed")

        store = Interposed(new.store, before_commit=die)
        projector = Projector(new.projection, self.events, store)
        return Rebuild(projector, store, new.predecessors, self, new.checkpoints).walk(share)


@pytest.fixture
def listed(server: CosmosServer, tmp_path: Path) -> Iterator[Listed]:
    with Containers(server) as containers:
        listed = Listed(server, containers, tmp_path)
        listed.project()
        yield listed


@pytest.fixture
def new(tmp_path: Path) -> Iterator[World]:
    with closing(World(tmp_path, louder())) as new:
        yield new


@pytest.mark.cosmos_wire
def test_only_what_a_share_is_part_of_is_listed(listed: Listed, new: World) -> None:
    """Partitions outside it cost no request, those within it one for a page; everybody is brought over, once."""
    names = listed.partitions()
    expected = {
        1: [[0, 1, 2]],
        2: [[0, 1], [1, 2]],
        3: [[0], [1], [2]],
        6: [[0], [0], [1], [1], [2], [2]],
    }
    for shares, partitions_of in expected.items():
        clients = 0
        for number, partitions in enumerate(partitions_of, 1):
            listed.requests.clear()
            *_, last = listed.walk(new, Share(number, shares))
            clients += last.clients
            assert last.done
            assert listed.requests == {names[place]: 1 for place in partitions}
        assert clients == len(PEOPLE)
    assert {new.record(client_id).values["root"]["segment"] for client_id in PEOPLE} == {"A"}


@pytest.mark.cosmos_wire
def test_a_share_that_was_killed_goes_on_in_the_partition_it_was_in(
    server: CosmosServer, listed: Listed, new: World
) -> None:
    """What is behind it is not listed again, also when the range was split meanwhile; the shares are complete together."""
    names = listed.partitions()
    with pytest.raises(StoreUnavailableError):
        list(listed.walk(new, Share(1, 2), dying=True))
    assert listed.requests == {names[0]: 1, names[1]: 1}
    server.split("flow", "events", "1")
    assert listed.partitions() == names
    listed.requests.clear()
    done = [list(listed.walk(new, Share(number, 2)))[-1] for number in (1, 2)]
    assert sum(each.clients for each in done) == len(PEOPLE)
    assert listed.requests[names[0]] == 0
    assert {new.record(client_id).values["root"]["segment"] for client_id in PEOPLE} == {"A"}
