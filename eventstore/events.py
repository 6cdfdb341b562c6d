"""Events before and after they are stored: the model users write, what they ask to store, and what was stored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from orjson import Fragment
from pydantic import BaseModel, ConfigDict

from .canonical import Json, canonical_json, normalize
from .errors import InvalidEventError
from .problems import FieldProblem

MAX_KEY = 200
_SHORT_TEXT = f"1 to {MAX_KEY} printable characters were expected"
_UTC_TEXT = "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"  # takes half the time of isoformat, twice an append
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class Event(BaseModel):
    """Base of event models: one fact about a client, in the past tense, holding only its own data.

    Client, time, source and id of an event live in its envelope, not here.
    """

    # Without `constants` pydantic turns a NaN inside a free-form field into null, where nobody could refuse it any more.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants", hide_input_in_errors=True
    )


@dataclass(frozen=True, slots=True)
class EventData:
    """What a caller asks to store, checked; usually made by `EventRegistry.event_data`.

    Attributes:
        event_id: `source:key`, the identity under which a repeat is recognised within one client.
        event_type: registered name.
        schema_version: version of the model `data` was written with.
        source: system the event came from.
        occurred_at: when the fact became true; brought to UTC.
        data: the payload as JSON object; normalized.
        correlation_id: identifies the request that caused the event.
        traceparent: W3C trace context of that request.
        json: the payload as canonical JSON.

    Raises:
        InvalidEventError: something in it cannot be stored; names the fields.
    """

    event_id: str
    event_type: str
    schema_version: int
    source: str
    occurred_at: datetime
    data: dict[str, Json]
    correlation_id: str | None = None
    traceparent: str | None = None
    json: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise InvalidEventError(*problems)
        data = normalize(self.data)
        object.__setattr__(self, "occurred_at", self.occurred_at.astimezone(UTC))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "json", canonical_json(data))

    def _problems(self) -> list[FieldProblem]:
        problems = []
        source, _, key = self.event_id.partition(":")
        if _SOURCE.fullmatch(self.source) is None:
            problems.append(FieldProblem("source", "a letter a-z, then up to 31 of a-z, 0-9, '-', '_' were expected"))
        if source != self.source:
            problems.append(FieldProblem("event_id", "the source, ':' and a key were expected"))
        elif not _is_short_text(key):
            problems.append(FieldProblem("key", _SHORT_TEXT))
        if not _has_utc_time(self.occurred_at):
            expected = "a time with an offset, between the years 1 and 9999 in UTC, was expected"
            problems.append(FieldProblem("occurred_at", expected))
        if self.correlation_id is not None and not _is_short_text(self.correlation_id):
            problems.append(FieldProblem("correlation_id", _SHORT_TEXT))
        if self.traceparent is not None and not _is_short_text(self.traceparent):
            problems.append(FieldProblem("traceparent", _SHORT_TEXT))
        return problems


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
        )
        previous = _hash((*fields, Fragment(event.json)), previous)
        recorded.append(RecordedEvent._make((*fields, event.data, previous)))
    return recorded


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and `Z`: fixed width, so that text order is time order.

    Raises:
        ValueError: the time has no offset, so nobody knows what it is in UTC.
    """
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise ValueError("a time with an offset was expected, a naive one came; use datetime.now(UTC)")
        moment = moment.astimezone(UTC)
    return _UTC_TEXT % (
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond
    )  # fmt: skip


def _hash(fields: tuple[Any, ...], previous_hash: str) -> str:
    # A list in fixed order rather than an object: the field names would only be hashed again and again.
    return sha256(canonical_json([previous_hash, *fields])).hexdigest()


def _is_short_text(text: str) -> bool:
    return 0 < len(text) <= MAX_KEY and text.isprintable()


def _has_utc_time(moment: datetime) -> bool:
    try:
        return moment.utcoffset() is not None and moment.astimezone(UTC) is not None
    except OverflowError:
        return False
