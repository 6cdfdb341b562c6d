"""Cosmos DB for the contracts: the wire server with its ranges in several states, or a named account."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.cosmos import VARIABLE, Containers, SplittingServer, containers_in, database
from tests.wire.cosmos import CosmosServer

__all__ = ["database"]

SERVERS: dict[str, Callable[[], CosmosServer]] = {
    "1 range": CosmosServer,
    "3 ranges": lambda: CosmosServer(ranges=3),
    "splitting": SplittingServer,
}


@pytest.fixture(params=[VARIABLE] if VARIABLE in os.environ else SERVERS)
def containers(request: pytest.FixtureRequest, database: str | None) -> Iterator[Containers]:
    """Containers in which nothing is stored yet."""
    if database is not None:
        with containers_in(database) as containers:
            yield containers
        return
    with SERVERS[request.param]() as server, Containers(server) as containers:
        yield containers
