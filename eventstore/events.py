"""Events before and after they are stored: the model users write, what they ask to store, and what was stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from .canonical import Json, canonical_json


class Event(BaseModel):
    """Base of event models: one fact about a client, in the past tense, holding only its own data.

    Client, time, source and id of an event live in its envelope, not here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class EventData:
    """What a caller asks to store; made by `EventRegistry.event_data`, which checks it.

    Attributes:
        event_id: `source:key`, the identity under which a repeat is recognised within one client.
        event_type: registered name.
        schema_version: version of the model `data` was written with.
        source: system the event came from.
        occurred_at: when the fact became true, in UTC.
        data: the payload as normalized JSON object.
        correlation_id: identifies the request that caused the event.
        traceparent: W3C trace context of that request.
    """

    event_id: str
    event_type: str
    schema_version: int
    source: str
    occurred_at: datetime
    data: dict[str, Json]
    correlation_id: str | None = None
    traceparent: str | None = None


class RecordedEvent(NamedTuple):
    """An event as it was stored; never changes.

    `version` counts a client's events from 1 without gaps. Times are in UTC text form (see `utc_text`). `recorded_at`
    never decreases within a client. `hash` is SHA-256 over everything else here and the hash of the version before, so
    a changed, lost or inserted event shows.
    """

    client_id: str
    version: int
    event_id: str
    event_type: str
    schema_version: int
    source: str
    occurred_at: str
    recorded_at: str
    correlation_id: str | None
    traceparent: str | None
    data: dict[str, Json]
    hash: str

    def follows(self, previous_hash: str) -> bool:
        """Whether this event is intact and its predecessor is the event with `previous_hash` ("" before version 1)."""
        return self.hash == _hash(self[:-1], previous_hash)


class StreamHead(NamedTuple):
    """The end of a client's stream: what the next event continues."""

    version: int
    hash: str
    recorded_at: str


EMPTY_STREAM = StreamHead(0, "", "")


def record_events(client_id: str, head: StreamHead, events: Sequence[EventData], now: datetime) -> list[RecordedEvent]:
    """The events as they continue the stream after `head`, numbered, timed and chained."""
    recorded_at = max(utc_text(now), head.recorded_at)
    version, previous = head.version, head.hash
    recorded = []
    for event in events:
        version += 1
        fields: tuple[Any, ...] = (
            client_id,
            version,
            event.event_id,
            event.event_type,
            event.schema_version,
            event.source,
            utc_text(event.occurred_at),
            recorded_at,
            event.correlation_id,
            event.traceparent,
            event.data,
        )
        previous = _hash(fields, previous)
        recorded.append(RecordedEvent._make((*fields, previous)))
    return recorded


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and `Z`: fixed width, so that text order is time order."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _hash(fields: tuple[Any, ...], previous_hash: str) -> str:
    # A list in fixed order rather than an object: the field names would only be hashed again and again.
    return sha256(canonical_json([previous_hash, *fields])).hexdigest()
