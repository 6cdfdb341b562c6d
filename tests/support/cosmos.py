"""Cosmos DB for tests: the wire server, or the account or emulator that `CLIENT_FLOW_TEST_COSMOS` names.

Each container is opened through a client of its own, as another process would have it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self
from uuid import uuid4

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    CosmosRejectionStore,
    open_cosmos,
)
from functions_app.backend import Backend
from functions_app.cosmos_access import ACCESS_CONTAINER, CosmosAccessLog
from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore
from projections import (
    PROJECTIONS_CONTAINER,
    CosmosDocumentStore,
    CosmosPredecessors,
    CosmosProjectionStore,
    Projection,
)
from tests.support.flow import now
from tests.wire.cosmos import CosmosServer
from tests.wire.cosmos.messages import Answer, Request

VARIABLE = "CLIENT_FLOW_TEST_COSMOS"
_WRITES = {"create", "replace", "upsert", "delete", "batch"}
_STORED = {200, 201, 204}  # a batch that was refused is a 207


class Account(Protocol):
    """Where containers are."""

    @property
    def connection_string(self) -> str: ...


class NamedAccount(NamedTuple):
    """An account that is not ours to start and stop."""

    connection_string: str


class SplittingServer(CosmosServer):
    """Splits the range that was written to after the 1st, 3rd, 7th, 15th, ... write to a container.

    The split is over before the writer has its answer, so whoever wrote more than once has crossed it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writes: Counter[tuple[str, ...]] = Counter()

    def _run(self, request: Request) -> Answer:
        with self._lock:
            answer = super()._run(request)
            if request.kind in _WRITES and answer.status in _STORED:
                _, database, _, container, *_ = request.segments
                self._writes[database, container] += 1
                number = self._writes[database, container]
                if number & (number + 1) == 0:
                    self.split(database, container, answer.headers["x-ms-documentdb-partitionkeyrangeid"])
        return answer


class Containers:
    """Opens containers from their descriptions, creating what is missing.

    Args:
        account: where they are.
        database: in which database.
        suffix: goes behind the names of the containers.
    """

    def __init__(self, account: Account, database: str = "flow", suffix: str = "") -> None:
        self._account, self._database, self._suffix = account, database, suffix
        self._clients: list[CosmosClient] = []
        self._opened: dict[str, ContainerProxy] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def open(self, described: dict[str, Any]) -> ContainerProxy:
        """The container, through a new client."""
        client = self._client()
        unique = [{"paths": [path]} for path in described["unique_keys"]]
        container = client.create_database_if_not_exists(self._database).create_container_if_not_exists(
            described["id"] + self._suffix,
            PartitionKey(described["partition_key"]),
            unique_key_policy={"uniqueKeys": unique} if unique else None,
            indexing_policy={
                "indexingMode": "consistent",
                "includedPaths": [{"path": path} for path in described["indexed"]],
                "excludedPaths": [{"path": "/*"}],
            },
        )
        self._opened[described["id"]] = container
        return container

    def drop(self) -> None:
        """Delete the containers that were opened."""
        for container in self._opened.values():
            self._client().get_database_client(self._database).delete_container(container.id)

    def _client(self) -> CosmosClient:
        connection = self._account.connection_string
        if isinstance(self._account, CosmosServer):  # no proxy leads there, and looking for one takes time
            transport = RequestsTransport(use_env_settings=False)
            client = CosmosClient.from_connection_string(
                connection, transport=transport, enable_compact_utf8_item_writes=True
            )
        else:
            client = open_cosmos(connection)
        self._clients.append(client)
        return client


def on_cosmos(
    local: Backend,
    container: Callable[[dict[str, Any]], ContainerProxy],
    projection: Projection[Any],
    clock: Callable[[], datetime] = now,
) -> Backend:
    """A backend with everything that is kept on Cosmos DB; topic and subscriptions stay the local ones."""
    events, intake = container(EVENTS_CONTAINER), container(INTAKE_CONTAINER)
    checkpoints = CosmosCheckpointStore(intake)
    return local._replace(
        events=CosmosEventStore(events, clock=clock),
        feed=CosmosChangeFeed(events, checkpoints),
        pulled=checkpoints,
        rejections=CosmosRejectionStore(intake, clock=clock),
        projections=CosmosProjectionStore(container(PROJECTIONS_CONTAINER), projection, clock=clock),
        documents=CosmosDocumentStore(container(PROJECTIONS_CONTAINER), projection),
        predecessors=CosmosPredecessors(container(PROJECTIONS_CONTAINER), projection),
        checkpoints=checkpoints,
        deliveries=CosmosDeliveryStore(container(DELIVERIES_CONTAINER)),
        access=CosmosAccessLog(container(ACCESS_CONTAINER)),
    )


@contextmanager
def fresh_database() -> Iterator[str | None]:
    """A database in the account that the environment names, deleted in the end; None if it names none."""
    connection = os.environ.get(VARIABLE)
    if connection is None:
        yield None
        return
    name = f"client-flow-test-{uuid4().hex[:12]}"
    with open_cosmos(connection) as client:
        client.create_database(name)
        try:
            yield name
        finally:
            client.delete_database(name)


@contextmanager
def containers_in(database: str) -> Iterator[Containers]:
    """Containers of one test in the account that the environment names, deleted in the end."""
    with Containers(NamedAccount(os.environ[VARIABLE]), database, f"-{uuid4().hex[:12]}") as containers:
        try:
            yield containers
        finally:
            containers.drop()


@pytest.fixture(scope="session")
def database() -> Iterator[str | None]:
    """The database of this run in a named account, None on the wire server."""
    with fresh_database() as name:
        yield name
