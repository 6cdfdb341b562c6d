"""The parts of an application as they are run: each tells traces, metrics and log what it does, under references."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import time_ns
from typing import Any

from integrations import (
    Body,
    Deliverer,
    Delivery,
    DeliveryResult,
    IncompleteError,
    Integration,
    InvalidMessageError,
    LogEntry,
    Outcome,
    Publisher,
    Strategy,
    Topic,
    TopicMessage,
    Verdict,
    read_announcement,
)
from projections import Outcome as Projected
from projections import ProjectionError, Projector, Target

from . import telemetry
from .problems import log_unexpected
from .references import References
from .telemetry import CLIENT, EVENT, VERSION

_log = logging.getLogger(__name__)

_LEVELS = {
    Verdict.DELIVERED: logging.DEBUG,
    Verdict.RETRY: logging.INFO,
    Verdict.FAILED: logging.WARNING,
    Verdict.PAUSE: logging.WARNING,
}


class ObservedProjector(Projector):
    """A projector that tells of each client whose events were traced, and of each that did not get to its target.

    Args:
        references: what clients and events are called.
        args: see `Projector`.
        parts: see `Projector`.
    """

    def __init__(self, *args: Any, references: References, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._references = references

    def catch_up_all(self, targets: Mapping[str, Target]) -> dict[str, Projected]:
        """See `Projector.catch_up_all`."""
        started = time_ns()
        outcomes = super().catch_up_all(targets)
        for client_id, outcome in outcomes.items():
            if outcome.error is not None or outcome.record.parked is not None:
                self._tell_trouble(client_id, outcome)
            events = sorted((event for event in targets[client_id].known if event.traceparent), key=lambda e: e.version)
            if events:
                attributes: dict[str, str | int] = {
                    CLIENT: self._references.client(client_id),
                    VERSION: outcome.record.version,
                    EVENT: self._references.event(events[-1].event_id),
                    telemetry.SOURCE: events[-1].source,
                    "client_flow.outcome": _outcome(outcome),
                }
                telemetry.caught_up([event.traceparent or "" for event in events], attributes, started=started)
        return outcomes

    def _tell_trouble(self, client_id: str, outcome: Projected) -> None:
        reference = self._references.client(client_id)
        if isinstance(outcome.error, ProjectionError):
            _log.warning("Client %s is not where it should be: %s", reference, type(outcome.error).__name__)
        elif outcome.error is not None:
            log_unexpected(outcome.error, client_ref=reference)
        elif (parked := outcome.record.parked) is not None:
            _log.warning("Client %s is parked at version %d: %s", reference, parked.version, parked.code)


class ObservedTopic:
    """A topic that tells of the announcements sent to it; a `Topic`."""

    def __init__(self, topic: Topic, references: References) -> None:
        self._topic = topic
        self._references = references

    def send(self, messages: Sequence[TopicMessage]) -> None:
        """See `Topic.send`."""
        if not messages or not telemetry.is_traced():
            self._topic.send(messages)
            return
        announced = [read_announcement(message.body) for message in messages]
        attributes: dict[str, str | int] = {
            CLIENT: self._references.client(announced[-1].client_id),
            VERSION: announced[-1].version,
            "messaging.batch.message_count": len(messages),
        }
        with telemetry.published([each.traceparent for each in announced if each.traceparent], attributes):
            self._topic.send(messages)


class ObservedPublisher(Publisher):
    """A publisher that tells of each client it failed with.

    Args:
        references: what clients are called.
        args: see `Publisher`.
        parts: see `Publisher`.
    """

    def __init__(self, *args: Any, references: References, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._references = references

    def publish(self, client_ids: Iterable[str]) -> int:
        """See `Publisher.publish`."""
        try:
            return super().publish(client_ids)
        except IncompleteError as error:
            _tell_failures(error, self._references)
            raise


class ObservedDeliverer(Deliverer):
    """A deliverer that tells of each attempt and of each client it failed with.

    Args:
        references: what clients are called.
        args: see `Deliverer`.
        parts: see `Deliverer`.
    """

    def __init__(self, *args: Any, references: References, **parts: Any) -> None:
        super().__init__(*args, on_attempt=self._tell_attempt, **parts)
        self._references = references

    def answer(self, client_id: str, integration: str, announcement: bytes) -> DeliveryResult:
        """Answer the doorbell that an announcement rings, in the trace that it carries.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: a database is out of reach.
        """
        with telemetry.doorbell(client_id, _traceparent(announcement)):
            return self.deliver(client_id, integration)

    def deliver_due(self, *, limit: int = 100, seconds: float = 20.0) -> Mapping[str, Counter[DeliveryResult]]:
        """See `Deliverer.deliver_due`."""
        try:
            return super().deliver_due(limit=limit, seconds=seconds)
        except IncompleteError as error:
            _tell_failures(error, self._references)
            raise

    def _tell_attempt(self, entry: LogEntry) -> None:
        telemetry.count_delivery(entry.integration, entry.verdict, entry.code, entry.seconds)
        reference = self._references.client(entry.client_id)
        level = _LEVELS[Verdict(entry.verdict)]
        _log.log(level, "Client %s, integration %s: %s (%s)", reference, entry.integration, entry.verdict, entry.code)


class _ObservedStrategy:
    """A strategy that tells of its calls; a `Strategy`."""

    def __init__(self, name: str, strategy: Strategy, references: References) -> None:
        self._name = name
        self._strategy = strategy
        self._references = references

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        """See `Strategy.send`."""
        with telemetry.delivered(delivery.client_id, self._name, self._attributes(delivery)) as span:
            outcome = self._strategy.send(body, delivery)
            span.set_attributes({"client_flow.outcome": outcome.verdict.value, "client_flow.code": outcome.code})
            return outcome

    def retract(self, delivery: Delivery) -> Outcome:
        """See `Strategy.retract`."""
        with telemetry.delivered(delivery.client_id, self._name, self._attributes(delivery)) as span:
            outcome = self._strategy.retract(delivery)
            span.set_attributes({"client_flow.outcome": outcome.verdict.value, "client_flow.code": outcome.code})
            return outcome

    def _attributes(self, delivery: Delivery) -> dict[str, str | int]:
        return {CLIENT: self._references.client(delivery.client_id), "client_flow.seq": delivery.seq}


def observed(integration: Integration, references: References) -> Integration:
    """The integration with a strategy that tells of its calls."""
    return replace(integration, strategy=_ObservedStrategy(integration.name, integration.strategy, references))


def _traceparent(body: bytes) -> str | None:
    """The trace context that a message of the topic carries, None if it carries none."""
    try:
        return read_announcement(body).traceparent
    except InvalidMessageError:
        return None


def _tell_failures(error: IncompleteError, references: References) -> None:
    for client_id, failure in error.failures.items():
        log_unexpected(failure, client_ref=references.client(client_id))


def _outcome(outcome: Projected) -> str:
    if outcome.error is not None:
        return type(outcome.error).__name__
    return "current" if outcome.record.parked is None else outcome.record.parked.code
