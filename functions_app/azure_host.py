"""The application on Azure: Cosmos DB for what is kept, Service Bus for what is announced."""

from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    CosmosRejectionStore,
    open_cosmos,
)
from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore, ServiceBusSubscriptions, ServiceBusTopic
from projections import PROJECTIONS_CONTAINER, CosmosDocumentStore, CosmosProjectionStore

from .backend import Backend
from .domain import Domain
from .settings import Settings
from .triggers import LEASES_CONTAINER

CONTAINERS: tuple[dict[str, Any], ...] = (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    PROJECTIONS_CONTAINER,
    DELIVERIES_CONTAINER,
    LEASES_CONTAINER,
)


def open_azure(settings: Settings, domain: Domain) -> Backend:
    """Open database and topic; both must have been provisioned.

    Raises:
        MissingSettingError: a setting is missing.
        StoreUnavailableError: the Cosmos DB account is out of reach.
    """
    database = open_cosmos(settings.cosmos).get_database_client(settings.database)

    def container(description: dict[str, Any]) -> ContainerProxy:
        return database.get_container_client(description["id"])

    events, intake = container(EVENTS_CONTAINER), container(INTAKE_CONTAINER)
    checkpoints = CosmosCheckpointStore(intake)
    return Backend(
        events=CosmosEventStore(events),
        feed=CosmosChangeFeed(events, checkpoints),
        pulled=checkpoints,
        rejections=CosmosRejectionStore(intake),
        projections=CosmosProjectionStore(container(PROJECTIONS_CONTAINER), domain.projection),
        documents=CosmosDocumentStore(container(PROJECTIONS_CONTAINER), domain.projection),
        checkpoints=checkpoints,
        deliveries=CosmosDeliveryStore(container(DELIVERIES_CONTAINER)),
        topic=ServiceBusTopic(settings.bus, domain.projection.name),
        subscriptions=ServiceBusSubscriptions(settings.bus, domain.projection.name),
    )
