"""The contracts of states, log and pauses of the deliveries on Cosmos DB, through the SDK and over a real socket."""

import pytest

from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore
from tests.contracts.test_delivery_store import AllStores, DeliveryStoreContract
from tests.support.cosmos import Containers

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]


class TestCosmosDeliveryStore(DeliveryStoreContract):
    @pytest.fixture
    def store(self, containers: Containers) -> AllStores:
        return CosmosDeliveryStore(containers.open(DELIVERIES_CONTAINER))
