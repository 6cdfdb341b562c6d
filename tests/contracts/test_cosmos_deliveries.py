"""The contracts of states, log and pauses of the deliveries on Cosmos DB, through the SDK and over a real socket."""

from collections.abc import Iterator

import pytest

from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore
from tests.contracts.test_delivery_store import AllStores, DeliveryStoreContract
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]


class TestCosmosDeliveryStore(DeliveryStoreContract):
    @pytest.fixture(params=[1, 3])
    def store(self, request: pytest.FixtureRequest) -> Iterator[AllStores]:
        with CosmosServer(ranges=request.param) as server, Containers(server) as containers:
            yield CosmosDeliveryStore(containers.open(DELIVERIES_CONTAINER))
