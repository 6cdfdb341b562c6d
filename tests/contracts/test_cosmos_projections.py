"""The contracts of the projections' ports on Cosmos DB, through the SDK and over a real socket."""

from typing import Any

import pytest

from projections import PROJECTIONS_CONTAINER, CosmosPredecessors, CosmosProjectionStore, Predecessors, Projection
from tests.contracts.test_audit_log import AuditLogContract
from tests.contracts.test_outbox import OutboxContract
from tests.contracts.test_predecessors import Open, PredecessorsContract
from tests.contracts.test_projection_store import OpenStore, ProjectionStoreContract
from tests.support.clients import clients
from tests.support.commits import SettableClock, Store
from tests.support.cosmos import Containers

pytestmark = [pytest.mark.contract, pytest.mark.cosmos_wire]


class TestCosmosProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    def open_store(self, containers: Containers) -> OpenStore:
        return lambda projection: CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), projection)


class TestCosmosAuditLog(AuditLogContract):
    @pytest.fixture
    def store(self, containers: Containers) -> Store:
        return CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), clients)


class TestCosmosOutbox(OutboxContract):
    @pytest.fixture
    def store(self, containers: Containers, clock: SettableClock) -> Store:
        return CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), clients, clock=clock)


class TestCosmosPredecessors(PredecessorsContract):
    @pytest.fixture
    def open_both(self, containers: Containers) -> Open:
        def open_both(projection: Projection[Any]) -> tuple[Store, Predecessors]:
            container = containers.open(PROJECTIONS_CONTAINER)
            return CosmosProjectionStore(container, projection), CosmosPredecessors(container, projection)

        return open_both
