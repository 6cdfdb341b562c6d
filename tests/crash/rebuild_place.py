"""Where the crash tests of rebuilding keep their clients: in files, or on Cosmos DB."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple, Protocol

from projections import Projection
from tests.crash.flow_cosmos import DeadlyTransport
from tests.support.clients import clients
from tests.support.cosmos import Containers
from tests.support.cosmos_world import CONTAINERS, DATABASE, CopiedServer, CosmosWorld
from tests.support.generations import louder
from tests.support.kill import KillPoints
from tests.support.projecting import AnyWorld, World
from tests.wire.cosmos import CosmosServer

LONG, STUCK = "3", "7"
"""Clients with events for several commits, and one that both rules park, from its third event on."""

_ACCOUNT = "AccountEndpoint="


def open_world(address: str, projection: Projection[Any], kill: KillPoints | None = None) -> AnyWorld:
    """Stores at an address: a directory, or the connection string of an account.

    On Cosmos DB a process also dies where a write is stored and its answer was not seen.
    """
    if not address.startswith(_ACCOUNT):
        return World(Path(address), projection)
    return CosmosWorld(address, projection, transport=None if kill is None else DeadlyTransport(kill))


class Place(Protocol):
    """Where clients are kept.

    Attributes:
        address: as `open_world` takes it.
        clients: their ids.
    """

    @property
    def address(self) -> str: ...

    @property
    def clients(self) -> Sequence[str]: ...

    def copied(self, directory: Path) -> Any:
        """A context in which a copy of all that is kept can be used, which is its value."""


class Files(NamedTuple):
    """A directory."""

    address: str
    clients: Sequence[str] = tuple(map(str, range(120)))

    @contextmanager
    def copied(self, directory: Path) -> Iterator["Files"]:
        """See `Place.copied`."""
        copytree(self.address, directory)
        yield Files(str(directory))


class Account(NamedTuple):
    """An account of two ranges, on a server of this process."""

    server: CosmosServer
    clients: Sequence[str] = tuple(map(str, range(12)))

    @property
    def address(self) -> str:
        """The connection string."""
        return self.server.connection_string

    @contextmanager
    def copied(self, directory: Path) -> Iterator["Account"]:
        """See `Place.copied`."""
        with CopiedServer(self.server) as server:
            yield Account(server)


@contextmanager
def new_place(backend: str, directory: Path) -> Iterator[Place]:
    """An empty place; `files` or `cosmos`."""
    if backend == "files":
        yield Files(str(directory))
        return
    with CosmosServer(ranges=2) as server:
        with Containers(server, DATABASE) as containers:
            for described in CONTAINERS:
                containers.open(described)
        yield Account(server)


class Pair(NamedTuple):
    """Code of both versions at one place."""

    place: Place
    old: AnyWorld
    new: AnyWorld

    @property
    def clients(self) -> Sequence[str]:
        """All clients."""
        return self.place.clients


@contextmanager
def pair_at(place: Place) -> Iterator[Pair]:
    """Open a place for code of both versions."""
    with closing(open_world(place.address, clients)) as old, closing(open_world(place.address, louder())) as new:
        yield Pair(place, old, new)
