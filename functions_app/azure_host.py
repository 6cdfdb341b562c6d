"""The application on Azure: Cosmos DB for what is kept, Service Bus for what is announced."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    CosmosRejectionStore,
    cosmos_container,
    open_cosmos,
)
from integrations import (
    DELIVERIES_CONTAINER,
    CosmosDeliveryStore,
    ServiceBusSessionQueues,
    ServiceBusSubscriptions,
    ServiceBusTopic,
)
from projections import PROJECTIONS_CONTAINER, CosmosDocumentStore, CosmosPredecessors, CosmosProjectionStore

from . import telemetry
from .backend import Backend
from .cosmos_access import ACCESS_CONTAINER, CosmosAccessLog
from .domain import Domain
from .settings import Settings
from .triggers import LEASES_CONTAINER

CONTAINERS: tuple[dict[str, Any], ...] = (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    PROJECTIONS_CONTAINER,
    DELIVERIES_CONTAINER,
    ACCESS_CONTAINER,
    LEASES_CONTAINER,
)


def open_azure(settings: Settings, domain: Domain, *, on_charge: Callable[[float], None] = lambda _: None) -> Backend:
    """Open database, topic and queues; all must have been provisioned.

    Args:
        settings: where they are.
        domain: what they are for.
        on_charge: told the request units of each answer; the thread that asked waits for it.

    Raises:
        MissingSettingError: a setting is missing.
        StoreUnavailableError: the Cosmos DB account is out of reach.
        StoreRefusedError: database or container are missing, or the identity may not look.
        WrongContainerError: a container has other keys than it must have.
    """
    topic = ServiceBusTopic(settings.bus, domain.projection.name)
    subscriptions = ServiceBusSubscriptions(settings.bus, domain.projection.name)
    queues = ServiceBusSessionQueues(settings.bus)

    def charged(units: float) -> None:
        telemetry.count_charge(units)
        on_charge(units)

    client = open_cosmos(settings.cosmos, on_charge=charged)
    opened = ExitStack()
    for close in (client.close, topic.close, subscriptions.close, queues.close):
        opened.callback(close)
    database = client.get_database_client(settings.database)

    def container(description: dict[str, Any]) -> ContainerProxy:
        return cosmos_container(database, description)

    events, intake = container(EVENTS_CONTAINER), container(INTAKE_CONTAINER)
    checkpoints = CosmosCheckpointStore(intake)
    return Backend(
        events=CosmosEventStore(events),
        feed=CosmosChangeFeed(events, checkpoints),
        pulled=checkpoints,
        rejections=CosmosRejectionStore(intake),
        projections=CosmosProjectionStore(container(PROJECTIONS_CONTAINER), domain.projection),
        documents=CosmosDocumentStore(container(PROJECTIONS_CONTAINER), domain.projection),
        predecessors=CosmosPredecessors(container(PROJECTIONS_CONTAINER), domain.projection),
        checkpoints=checkpoints,
        deliveries=CosmosDeliveryStore(container(DELIVERIES_CONTAINER)),
        topic=topic,
        subscriptions=subscriptions,
        queues=queues,
        access=CosmosAccessLog(container(ACCESS_CONTAINER)),
        close=opened.close,
    )
