"""A place to project the sample clients on Cosmos DB, and a server that begins with what another one holds."""

from copy import deepcopy
from typing import Any

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import ContainerProxy, CosmosClient

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
)
from projections import PROJECTIONS_CONTAINER, CosmosPredecessors, CosmosProjectionStore, Projection
from tests.support.clients import clients
from tests.support.projecting import RECORDED_AT, AnyWorld
from tests.wire.cosmos import CosmosServer

CONTAINERS = (EVENTS_CONTAINER, INTAKE_CONTAINER, PROJECTIONS_CONTAINER)
DATABASE = "flow"


class CosmosWorld(AnyWorld):
    """Stores of one projection in the database `flow` of an account, whose containers are there.

    Args:
        connection: connection string.
        projection: what is projected.
        transport: carries the requests; no proxy leads to a server for tests, and looking for one takes time.
    """

    def __init__(
        self, connection: str, projection: Projection[Any] = clients, *, transport: RequestsTransport | None = None
    ) -> None:
        transport = transport or RequestsTransport(use_env_settings=False)
        self._client = CosmosClient.from_connection_string(connection, transport=transport)
        database = self._client.get_database_client(DATABASE)

        def container(described: dict[str, Any]) -> ContainerProxy:
            return database.get_container_client(described["id"])

        events, checkpoints = container(EVENTS_CONTAINER), CosmosCheckpointStore(container(INTAKE_CONTAINER))
        projections = container(PROJECTIONS_CONTAINER)
        super().__init__(
            projection,
            CosmosEventStore(events, clock=lambda: RECORDED_AT),
            CosmosChangeFeed(events, checkpoints),
            CosmosProjectionStore(projections, projection, clock=lambda: RECORDED_AT),
            CosmosPredecessors(projections, projection),
            checkpoints,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class CopiedServer(CosmosServer):
    """Begins with what another server holds, as a copy of its own."""

    def __init__(self, original: CosmosServer) -> None:
        super().__init__()
        with original._lock:
            self._account.databases = deepcopy(original._account.databases, {id(original.settings): self.settings})
