"""What drives the data on one machine: the loops that stand for the change-feed and topic triggers of Azure."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

from eventstore import EventStoreError, StoreUnavailableError
from integrations import BusUnavailableError, Integration, IntegrationError, ReceivedMessage, UnknownSubscriptionError

from .runtime import Runtime

_log = logging.getLogger(__name__)

_POLL = 0.5  # seconds until events of another process are noticed
_LATER = 10.0  # seconds until somebody may have provisioned what is missing
_DUE = 1.0  # seconds between looks at deliveries that are due


class DataLoop:
    """Repeats a step until told to stop; while a database or topic is out of reach, it waits and tries again.

    Args:
        name: for thread and log.
        step: one portion of work, given the event that tells it to stop; waits by itself for something to do.
    """

    def __init__(self, name: str, step: Callable[[Event], None]) -> None:
        self.name = name
        self._step = step

    def run(self, stop: Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            try:
                self._step(stop)
            except (StoreUnavailableError, BusUnavailableError) as error:
                _log.warning("%s waits: %s", self.name, error)
                stop.wait(error.retry_after)
            except IntegrationError as error:
                _log.warning("%s waits: %s", self.name, error)
                stop.wait(_LATER if isinstance(error, UnknownSubscriptionError) else _POLL)


def data_loops(runtime: Runtime) -> Sequence[DataLoop]:
    """The loops of one application: projecting, delivering for each integration, retrying."""
    return [
        _project_loop(runtime),
        *(_deliver_loop(runtime, integration) for integration in runtime.domain.integrations),
        DataLoop("due", lambda stop: _deliver_due(runtime, stop)),
    ]


def _project_loop(runtime: Runtime) -> DataLoop:
    """Follow the change feed: at once when this process stored events, soon when another did."""
    started = Event()

    def step(stop: Event) -> None:
        if not started.is_set():
            # What a process that was killed had not announced need not wait until it counts as missed.
            runtime.sweep(overdue=timedelta(0), stop=stop.is_set)
            started.set()
        runtime.new_events.wait(_POLL)
        runtime.new_events.clear()
        runtime.follower.sweep(stop=stop.is_set)

    return DataLoop("project", step)


def _deliver_due(runtime: Runtime, stop: Event) -> None:
    if not stop.wait(_DUE):
        runtime.deliverer.deliver_due()


def _deliver_loop(runtime: Runtime, integration: Integration) -> DataLoop:
    """Receive an integration's subscription and deliver what it announces."""
    most = integration.max_in_flight

    def deliver(received: ReceivedMessage) -> None:
        # The message is only a doorbell: what is owed stands in the deliveries, so it is complete either way.
        try:
            message = received.message
            runtime.deliverer.answer(message.session_id, integration.name, message.body)
            runtime.backend.subscriptions.complete(received)
        except (EventStoreError, IntegrationError) as error:
            _log.warning("A doorbell of %s is left to the timer: %s", integration.name, type(error).__name__)

    def step(stop: Event) -> None:  # noqa: ARG001 - receiving waits no longer than the poll
        received = runtime.backend.subscriptions.receive(integration.name, limit=most, wait=_POLL)
        if received:
            with ThreadPoolExecutor(len(received), thread_name_prefix=integration.name) as pool:
                list(pool.map(deliver, received))

    return DataLoop(f"deliver {integration.name}", step)
