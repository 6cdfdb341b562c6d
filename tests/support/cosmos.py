"""Containers on the Cosmos wire server, each through a client of its own, as another process would have it."""

from typing import Any, Self

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey

from tests.wire.cosmos import CosmosServer


class Containers:
    """Opens containers from their descriptions, creating what is missing."""

    def __init__(self, server: CosmosServer) -> None:
        self.server = server
        self._clients: list[CosmosClient] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def open(self, described: dict[str, Any]) -> ContainerProxy:
        """The container, through a new client that repeats nothing by itself but what the SDK always repeats."""
        transport = RequestsTransport(use_env_settings=False)
        client = CosmosClient(
            self.server.url, self.server.key, transport=transport, enable_compact_utf8_item_writes=True
        )
        self._clients.append(client)
        unique = [{"paths": [path]} for path in described["unique_keys"]]
        return client.create_database_if_not_exists("flow").create_container_if_not_exists(
            described["id"],
            PartitionKey(described["partition_key"]),
            unique_key_policy={"uniqueKeys": unique} if unique else None,
            indexing_policy={
                "indexingMode": "consistent",
                "includedPaths": [{"path": path} for path in described["indexed"]],
                "excludedPaths": [{"path": "/*"}],
            },
        )
