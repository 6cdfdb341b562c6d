"""Trigger functions: those of change feed and topic only say look now, those of session queues bring deliveries.

What the doorbells ring for stands in the stores, so that nothing is lost with a trigger's own checkpoint.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from azure.functions import Blueprint, DocumentList, ServiceBusMessage

from eventstore import EventStoreError, ForeignDocument, RecordedEvent, event_in, foreign_in
from integrations import Integration, QueuedMessage, QueueMessage
from projections import targets_of

from .domain import Domain, Receiver
from .errors import FlowError, TakeFailedError
from .problems import log_unexpected
from .queue_intake import patience, persistently
from .runtime import Runtime

COSMOS_CONNECTION = "COSMOS_CONN"
BUS_CONNECTION = "BUS_CONN"
LEASES_CONTAINER: dict[str, Any] = {"id": "leases", "partition_key": "/id", "unique_keys": [], "indexed": []}

_BATCH = 100  # events of one invocation, as a hint: a transaction is never cut
_RETRY_SECONDS = "00:00:10"


class TriggerFunctionBuilder:
    """Builds `project_clients`, `<name>_deliver` for integrations and `<name>_receive_queue` for receivers with a queue.

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
            events, foreign = _sorted_out(docs)
            if foreign:
                runtime().findings.note_foreign(foreign)
            runtime().projector.catch_up_all(targets_of(events))

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

    def add_queue(self, receiver: Receiver) -> None:
        """Register the function that takes the messages of a receiver's session queue, one at a time of each session."""
        runtime = self._runtime

        def receive_queue(msg: ServiceBusMessage) -> None:
            pause = patience()
            try:
                opened = persistently(runtime, pause)
                opened.queue_intake.take(receiver, _queued(msg), pause)
            except (EventStoreError, FlowError):
                raise  # the host hands it back; these say nothing about the message
            except Exception as error:  # noqa: BLE001 - may quote the payload, and hosts log what leaves here
                raise TakeFailedError(receiver.name, type(error).__name__, log_unexpected(error)) from None

        name = f"{receiver.name}_receive_queue"
        triggered = self._blueprint.service_bus_queue_trigger(
            arg_name="msg", connection=BUS_CONNECTION, queue_name=receiver.queue_name, is_sessions_enabled=True
        )(receive_queue)
        self._blueprint.function_name(name)(triggered)


def _queued(message: ServiceBusMessage) -> QueuedMessage:
    properties = {
        name: value for name, value in (message.application_properties or {}).items() if isinstance(value, str)
    }
    sent = QueueMessage(
        message.message_id or "", message.session_id or "", message.get_body(), properties, message.correlation_id
    )
    enqueued_at = message.enqueued_time_utc or datetime.now(UTC)
    if enqueued_at.tzinfo is None:
        enqueued_at = enqueued_at.replace(tzinfo=UTC)
    return QueuedMessage(sent, enqueued_at, message.delivery_count or 1, message.lock_token or "")


def _sorted_out(documents: Iterable[Mapping[str, Any]]) -> tuple[list[RecordedEvent], list[ForeignDocument]]:
    """What is an event, and what is none."""
    events, foreign = [], []
    for document in documents:
        event = event_in(document)
        if event is None:
            foreign.append(foreign_in(document))
        else:
            events.append(event)
    return events, foreign
