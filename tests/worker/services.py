"""The services that the sample stands on when it is deployed: wire servers that hold what has to be there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.cosmos import CosmosClient

from functions_app.azure_host import CONTAINERS
from functions_app.provision import provision
from tests.wire.cosmos import CosmosServer

NAMESPACE = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Queues": [
                    {"Name": "crm-events", "Properties": {"RequiresSession": True, "RequiresDuplicateDetection": True}}
                ],
                "Topics": [
                    {
                        "Name": "people",
                        "Properties": {"RequiresDuplicateDetection": True},
                        "Subscriptions": [{"Name": "crm"}, {"Name": "mailing"}],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


@contextmanager
def provisioned() -> Iterator[CosmosServer]:
    """An account, provisioned as the command does it."""
    with CosmosServer() as server:
        with CosmosClient(server.url, server.key) as client:
            provision(client, "client-flow", CONTAINERS)
        yield server


def changes(account: CosmosServer) -> list[dict[str, Any]]:
    """What the change feed brings of the events."""
    with CosmosClient(account.url, account.key) as client:
        events = client.get_database_client("client-flow").get_container_client("events")
        return [dict(each) for each in events.query_items_change_feed(start_time="Beginning")]
