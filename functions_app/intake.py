"""Intake: what a source delivered becomes events in the store, or is refused with a reason.

HTTP receivers, session queues, timers, bulk import and the replay of rejections all come through here, so that one
delivery means the same whichever way it came.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from eventstore import (
    ANY,
    EventData,
    EventIdReusedError,
    EventRegistry,
    EventStore,
    EventStoreError,
    FieldProblem,
    InvalidClientIdError,
    InvalidEventError,
    RecordedEvent,
    field_problems,
)

from . import telemetry
from .domain import Fact, Source
from .errors import InputRefusedError
from .event_keys import EventKey, HeaderKey, NoKey

_WORKERS = 8
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, section 3.2
_CORRELATION = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)

Notify = Callable[[Sequence[RecordedEvent]], None]


class Delivered(NamedTuple):
    """One thing a source delivered.

    Attributes:
        payload: parsed JSON.
        headers: of the request, if it came by one.
        key: its identity, if whoever delivers knows it (a row of a file); otherwise the source's declaration tells.
        place: its position in the batch that one request brought.
        received_at: time of receipt, if it came by a queue; otherwise it is the present time.
    """

    payload: Any
    headers: Mapping[str, str] = {}
    key: str | None = None
    place: int | None = None
    received_at: datetime | None = None


class Accepted(NamedTuple):
    """An event that is in the store.

    Attributes:
        event: as recorded.
        duplicate: whether it had been there before.
    """

    event: RecordedEvent
    duplicate: bool


class Trace(NamedTuple):
    """What ties events to the request that brought them."""

    correlation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def of(cls, correlation_id: str | None, traceparent: str | None) -> "Trace":
        """What somebody sent, as far as it is well-formed."""
        return cls(
            correlation_id if _CORRELATION.fullmatch(correlation_id or "") else None,
            traceparent if _TRACEPARENT.fullmatch(traceparent or "") else None,
        )


class Translated(NamedTuple):
    """What one delivery says.

    Attributes:
        key: its identity.
        events: by client.
    """

    key: str
    events: Mapping[str, Sequence[EventData]]


class _Part(NamedTuple):
    """What one delivery has for one client."""

    place: int
    events: Sequence[EventData]


Result = list[Accepted] | InputRefusedError


class Intake:
    """Turns deliveries into stored events.

    Args:
        registry: the event models.
        store: where events go.
        notify: told about new events after they are stored; the projector's doorbell.
        clock: time of receipt.
        new_key: makes the key of a delivery whose source has none.
    """

    def __init__(
        self,
        registry: EventRegistry,
        store: EventStore,
        *,
        notify: Notify = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._registry = registry
        self._store = store
        self._notify = notify
        self._clock = clock
        self._new_key = new_key

    def accept(self, source: Source, delivered: Delivered, trace: Trace = Trace()) -> list[Accepted]:  # noqa: B008 - immutable
        """Store the events in one delivery.

        Raises:
            InputRefusedError: it cannot become events; nothing of a client's part is stored.
            ContentionError: other writers won every round.
            StoreUnavailableError: the store is out of reach.
        """
        [result] = self.accept_all(source, [delivered], trace)
        if isinstance(result, InputRefusedError):
            raise result
        return result

    def accept_all(self, source: Source, delivered: Sequence[Delivered], trace: Trace = Trace()) -> list[Result]:  # noqa: B008 - immutable
        """Store the events in many deliveries, in their order for each client; one that is refused harms no other.

        Returns:
            For each delivery its events, or why it was refused.

        Raises:
            ContentionError: other writers won every round.
            StoreUnavailableError: the store is out of reach.
        """
        results: list[Result] = []
        by_client: dict[str, list[_Part]] = defaultdict(list)
        for index, each in enumerate(delivered):
            try:
                translated = self.translate(source, each, trace)
            except InputRefusedError as error:
                telemetry.count_rejection(source.name, error.code)
                results.append(error)
                continue
            results.append([])
            for client_id, events in translated.events.items():
                by_client[client_id].append(_Part(index, events))
        stored = self._append_all(by_client)
        for index, outcome in stored:
            so_far = results[index]
            if isinstance(so_far, InputRefusedError):
                continue
            if isinstance(outcome, InputRefusedError):
                telemetry.count_rejection(source.name, outcome.code)
                results[index] = outcome
            else:
                so_far += outcome
        new = [
            accepted.event
            for _, outcome in stored
            if not isinstance(outcome, InputRefusedError)
            for accepted in outcome
            if not accepted.duplicate
        ]
        if new:
            self._notify(new)
        return results

    def translate(self, source: Source, delivered: Delivered, trace: Trace = Trace()) -> Translated:  # noqa: B008 - immutable
        """The events in one delivery; stores nothing.

        Raises:
            InputRefusedError: it cannot become events.
        """
        try:
            payload = source.payload.model_validate(delivered.payload)
            key = delivered.key or self._key(source.key, delivered)
            facts = _facts(source, payload)
            now = delivered.received_at or self._clock()
            translated: dict[str, list[EventData]] = defaultdict(list)
            for number, fact in enumerate(facts, 1):
                event = self._registry.event_data(
                    fact.event,
                    source=source.name,
                    key=key if len(facts) == 1 else f"{key}:{number}",
                    occurred_at=fact.occurred_at or now,
                    correlation_id=trace.correlation_id,
                    traceparent=trace.traceparent,
                )
                translated[str(fact.client_id)].append(event)
        except (ValidationError, EventStoreError) as error:
            raise _refused(error) from None
        return Translated(key, translated)

    def _append_all(self, by_client: Mapping[str, Sequence[_Part]]) -> list[tuple[int, Result]]:
        """Append client by client, side by side: their commits are shared where the store can share them."""
        if not by_client:
            return []
        events = sum(len(part.events) for parts in by_client.values() for part in parts)
        with telemetry.appended(len(by_client), events):
            if len(by_client) == 1:
                groups = [self._append(client_id, parts) for client_id, parts in by_client.items()]
            else:
                with ThreadPoolExecutor(min(_WORKERS, len(by_client))) as pool:
                    groups = list(pool.map(self._append, by_client.keys(), by_client.values()))
        return [outcome for group in groups for outcome in group]

    def _append(self, client_id: str, parts: Sequence[_Part]) -> list[tuple[int, Result]]:
        """Append the parts in one transaction; if that is refused, halve them until only what is wrong is refused."""
        events = [event for part in parts for event in part.events]
        try:
            appended = self._store.append(client_id, events, expected_version=ANY)
        except (EventIdReusedError, InvalidEventError) as error:
            if len(parts) == 1:
                return [(parts[0].place, _refused(error))]
            half = len(parts) // 2
            return self._append(client_id, parts[:half]) + self._append(client_id, parts[half:])
        accepted = iter([Accepted(event, event.event_id in appended.duplicates) for event in appended.events])
        return [(part.place, list(islice(accepted, len(part.events)))) for part in parts]

    def _key(self, declared: EventKey, delivered: Delivered) -> str:
        if isinstance(declared, NoKey):
            return self._new_key()
        key = declared.of(delivered.payload, delivered.headers)
        # The items of a batch share the request's headers, but are not repeats of each other.
        return f"{key}-{delivered.place}" if isinstance(declared, HeaderKey) and delivered.place is not None else key


def _facts(source: Source, payload: Any) -> list[Fact]:
    try:
        return list(source.process(payload))
    except (ValidationError, EventStoreError, InputRefusedError):
        raise
    except Exception as error:  # noqa: BLE001 - user code; what it raises may quote the payload
        problem = FieldProblem("(whole)", f"the processor of {source.name} raised {type(error).__name__}")
        raise InputRefusedError("processor_raised", [problem]) from None


def _refused(error: ValidationError | EventStoreError) -> InputRefusedError:
    if isinstance(error, ValidationError):
        return InputRefusedError("invalid_payload", field_problems(error))
    if isinstance(error, InvalidEventError):
        return InputRefusedError("invalid_event", error.problems)
    if isinstance(error, InvalidClientIdError):
        return InputRefusedError("invalid_client_id", [FieldProblem("client_id", error.problem)])
    if isinstance(error, EventIdReusedError):
        problem = FieldProblem("event_id", "already used by another event of this client; a new fact needs a new key")
        return InputRefusedError("event_id_reused", [problem])
    raise error
