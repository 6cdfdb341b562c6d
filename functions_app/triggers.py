"""Trigger functions: the doorbells of Azure. What is to be done stands in the stores; a trigger only says look now."""

from collections.abc import Callable, Mapping
from typing import Any

from azure.functions import Blueprint, DocumentList, ServiceBusMessage

from eventstore import RecordedEvent
from integrations import Integration
from projections import targets_of

from .domain import Domain
from .runtime import Runtime

COSMOS_CONNECTION = "COSMOS_CONN"
BUS_CONNECTION = "BUS_CONN"
LEASES_CONTAINER: dict[str, Any] = {"id": "leases", "partition_key": "/id", "unique_keys": [], "indexed": []}

_BATCH = 100  # events of one invocation, as a hint: a transaction is never cut
_RETRY_SECONDS = "00:00:10"


class TriggerFunctionBuilder:
    """Builds `project_clients` and, for each integration, `<name>_deliver`.

    Trouble with one client is logged and left to the sweep. Only what has nothing to do with a client is raised: the
    host then rings again, for the change feed without end.

    Args:
        blueprint: where the functions are registered.
        runtime: gives the composed application, on first use.
    """

    def __init__(self, blueprint: Blueprint, runtime: Callable[[], Runtime]) -> None:
        self._blueprint = blueprint
        self._runtime = runtime

    def add_projector(self, domain: Domain) -> None:
        """Register the function that projects the clients of new events."""
        runtime = self._runtime

        def project_clients(docs: DocumentList) -> None:
            runtime().projector.catch_up_all(targets_of(map(_event, docs)))

        # Without a retry policy the host moves on after an exception, and the batch is never seen again.
        retried = self._blueprint.retry(strategy="fixed_delay", max_retry_count="-1", delay_interval=_RETRY_SECONDS)(
            project_clients
        )
        triggered = self._blueprint.cosmos_db_trigger(
            arg_name="docs",
            connection=COSMOS_CONNECTION,
            database_name="%DATABASE%",
            container_name="events",
            lease_container_name=str(LEASES_CONTAINER["id"]),
            lease_container_prefix=domain.projection.generation,
            create_lease_container_if_not_exists=False,
            max_items_per_invocation=_BATCH,
            feed_poll_delay=1000,
        )(retried)
        self._blueprint.function_name("project_clients")(triggered)

    def add_delivery(self, domain: Domain, integration: Integration) -> None:
        """Register the function that delivers what a topic message announces."""
        runtime = self._runtime

        def deliver(msg: ServiceBusMessage) -> None:
            if msg.session_id is not None:
                runtime().deliverer.answer(msg.session_id, integration.name, msg.get_body())

        triggered = self._blueprint.service_bus_topic_trigger(
            arg_name="msg",
            connection=BUS_CONNECTION,
            topic_name=domain.projection.name,
            subscription_name=integration.name,
        )(deliver)
        self._blueprint.function_name(f"{integration.name.replace('-', '_')}_deliver")(triggered)


def _event(document: Mapping[str, Any]) -> RecordedEvent:
    return RecordedEvent._make(document[name] for name in RecordedEvent._fields)
