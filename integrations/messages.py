"""What the topic carries: one CloudEvents 1.0 message for each announcement. Pure; equal entries give equal bytes."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from eventstore import InvalidClientIdError, canonical_json, check_client_id
from projections import ABSENT, FieldChange, OutboxEntry

from .errors import InvalidMessageError

MESSAGE_LIMIT = 240 * 1024
"""Bytes of a body: the 256 KB of a Service Bus standard topic, less room for headers and properties."""
EVENT_TYPE = "client-flow.record.changed"


class TopicMessage(NamedTuple):
    """An announcement as the topic carries it.

    Attributes:
        message_id: the same whenever the same announcement is sent again, so that the topic drops the copy.
        session_id: the client id: subscribers that use sessions get a client's announcements in order.
        correlation_id: of the event that caused it.
        properties: a true property for each sub-schema that changed, for subscription filters.
        body: CloudEvents 1.0 in JSON form.
    """

    message_id: str
    session_id: str
    correlation_id: str | None
    properties: Mapping[str, bool]
    body: bytes


class Announcement(NamedTuple):
    """What a message tells whoever only needs to know that there is something to do.

    Attributes:
        client_id: text of the client id.
        seq: number of the announcement.
        version: version of the record.
        traceparent: trace context of the event that caused it, if it had one.
    """

    client_id: str
    seq: int
    version: int
    traceparent: str | None = None


def topic_message(entry: OutboxEntry, *, source: str, limit: int = MESSAGE_LIMIT) -> TopicMessage:
    """The message that announces a committed change.

    A body over the limit goes without contents and changes, marked `"truncated": true`; whoever needs them reads the
    record.

    Args:
        entry: the announcement.
        source: CloudEvents source, a URI reference as `/client-flow/clients`.
        limit: bytes a body may have.
    """
    message_id = _message_id(entry)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message_id,
        "source": source,
        "type": EVENT_TYPE,
        "subject": entry.client_id,
        "time": entry.recorded_at,
        "datacontenttype": "application/json",
        "data": {
            "client_id": entry.client_id,
            "seq": entry.seq,
            "previous_seq": entry.previous_seq,
            "version": entry.version,
            "changed": entry.contents,
            "changes": [_change(change) for change in entry.changes],
        },
    }
    if entry.correlation_id is not None:
        event["correlationid"] = entry.correlation_id
    if entry.traceparent is not None:
        event["traceparent"] = entry.traceparent
    body = canonical_json(event)
    if len(body) > limit:
        del event["data"]["changed"], event["data"]["changes"]
        event["data"]["truncated"] = True
        body = canonical_json(event)
    properties = dict.fromkeys(sorted(entry.contents), True)
    return TopicMessage(message_id, entry.client_id, entry.correlation_id, properties, body)


def read_announcement(body: bytes) -> Announcement:
    """What a message's body announces.

    Raises:
        InvalidMessageError: it is no announcement.
    """
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidMessageError("the body is no JSON") from None
    data = event.get("data") if isinstance(event, dict) and event.get("type") == EVENT_TYPE else None
    if not isinstance(data, dict):
        raise InvalidMessageError(f"a CloudEvent of type {EVENT_TYPE} was expected")
    client_id, seq, version = data.get("client_id"), data.get("seq"), data.get("version")
    traceparent = event.get("traceparent")
    if type(client_id) is not str or type(seq) is not int or type(version) is not int:
        raise InvalidMessageError("its data lacks client_id, seq or version")
    try:
        return Announcement(check_client_id(client_id), seq, version, traceparent if type(traceparent) is str else None)
    except InvalidClientIdError as error:
        raise InvalidMessageError(f"client_id: {error.problem}") from None


def _message_id(entry: OutboxEntry) -> str:
    return blake2b(canonical_json([entry.projection, entry.client_id, entry.seq]), digest_size=16).hexdigest()


def _change(change: FieldChange) -> dict[str, Any]:
    told = {"sub_schema": change.sub_schema, "field": change.field, "old": change.old, "new": change.new}
    return {key: value for key, value in told.items() if value is not ABSENT}
