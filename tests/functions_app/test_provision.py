"""Provisioning: what is missing is said and made, what differs is said and changed, nothing happens by the way."""

from collections.abc import Iterator

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient, PartitionKey

from eventstore import EVENTS_CONTAINER, INTAKE_CONTAINER
from functions_app.azure_host import CONTAINERS as ALL_CONTAINERS
from functions_app.bicep import cosmos_bicep
from functions_app.cosmos_access import ACCESS_CONTAINER
from functions_app.provision import indexing_policy, inspect, provision
from projections import PROJECTIONS_CONTAINER
from tests.wire.cosmos import CosmosServer

pytestmark = pytest.mark.cosmos_wire

CONTAINERS = (EVENTS_CONTAINER, INTAKE_CONTAINER, PROJECTIONS_CONTAINER, ACCESS_CONTAINER)


@pytest.fixture
def client() -> Iterator[CosmosClient]:
    with (
        CosmosServer() as server,
        CosmosClient(server.url, server.key, transport=RequestsTransport(use_env_settings=False)) as client,
    ):
        yield client


def states(client: CosmosClient) -> dict[str, str]:
    """The state of each container."""
    return {finding.name: finding.state for finding in inspect(client, "flow", CONTAINERS)}


def test_looking_makes_nothing(client: CosmosClient) -> None:
    """On an empty account everything is missing, and still is after looking."""
    assert set(states(client).values()) == {"missing"}
    assert list(client.list_databases()) == []


def test_what_is_missing_is_made(client: CosmosClient) -> None:
    """After provisioning everything is as it should be, and doing it again finds nothing to do."""
    assert {finding.state for finding in provision(client, "flow", CONTAINERS)} == {"missing"}
    assert set(states(client).values()) == {"as it should be"}
    assert {finding.state for finding in provision(client, "flow", CONTAINERS)} == {"as it should be"}
    made = client.get_database_client("flow").get_container_client("events").read()
    assert made["partitionKey"]["paths"] == ["/client_id"]
    assert made["uniqueKeyPolicy"]["uniqueKeys"] == [{"paths": ["/event_id"]}]


def test_what_is_forgotten_by_the_service_is_provisioned_so(client: CosmosClient) -> None:
    """The access log's time to live is made, checked and mended like everything else."""
    assert ACCESS_CONTAINER in ALL_CONTAINERS
    provision(client, "flow", CONTAINERS)
    database = client.get_database_client("flow")
    assert database.get_container_client("access").read()["defaultTtl"] == 400 * 86_400
    database.replace_container("access", PartitionKey("/client_ref"), default_ttl=60)
    assert states(client)["access"] == "differs"
    provision(client, "flow", CONTAINERS)
    assert states(client)["access"] == "as it should be"


def test_an_index_that_differs_is_changed(client: CosmosClient) -> None:
    """An indexing policy can be changed in place; the finding says what was there."""
    provision(client, "flow", CONTAINERS)
    database = client.get_database_client("flow")
    database.replace_container("intake", PartitionKey("/kind"))
    (finding,) = inspect(client, "flow", [INTAKE_CONTAINER])
    assert finding.state == "differs"
    assert finding.details[0].startswith("indexed paths: ")
    provision(client, "flow", [INTAKE_CONTAINER])
    assert states(client)["intake"] == "as it should be"
    policy = database.get_container_client("intake").read()["indexingPolicy"]
    assert policy["includedPaths"] == indexing_policy(INTAKE_CONTAINER)["includedPaths"]


@pytest.mark.parametrize("key", ["/id", "/client_id"])
def test_a_container_with_another_key_is_left_alone(client: CosmosClient, key: str) -> None:
    """Partition key and unique keys are fixed for life: it is said, and nothing is touched."""
    database = client.create_database("flow")
    database.create_container("events", PartitionKey(key))
    before = database.get_container_client("events").read()
    (finding, *_) = provision(client, "flow", CONTAINERS)
    assert finding.state == "cannot be used"
    assert any("unique keys" in detail for detail in finding.details)
    assert database.get_container_client("events").read()["_etag"] == before["_etag"]


def test_bicep_says_the_same() -> None:
    """Every container with its keys and indexed paths, and nothing left to fill in."""
    text = cosmos_bicep("flow", CONTAINERS)
    assert text.count("sqlDatabases/containers@") == len(CONTAINERS)
    assert "uniqueKeys: [{ paths: ['/event_id'] }]" in text
    for container in CONTAINERS:
        assert f"name: '{container['id']}'" in text
        for path in container["indexed"]:
            assert f"{{ path: '{path}' }}" in text
    assert text.count("{") == text.count("}")
    assert not any(mark in text for mark in ("DATABASE'", "SYMBOL", "NAME\n", "PARTITION_KEY", "INCLUDED", "TTL"))
