"""Records, audit entries, announcements as JSON objects: the form in which every backend keeps them and queries show them."""

from typing import Any

import orjson

from .record import ABSENT, Announced, Assertion, AuditEntry, FieldChange, OutboxEntry, Parked, Record

Document = dict[str, Any]


def object_in(text: str) -> Document:
    """The JSON object of a text; empty if it is none, which no document is."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def record_document(record: Record) -> Document:
    """A record as JSON object."""
    document = record._asdict()
    document["annulled"] = list(record.annulled)
    document["parked"] = None if record.parked is None else record.parked._asdict()
    document["provenance"] = {
        name: {field: list(assertion) for field, assertion in fields.items()}
        for name, fields in record.provenance.items()
    }
    return document


def record_from(document: Document) -> Record:
    """The record of a JSON object."""
    parked = document["parked"]
    return Record(
        document["client_id"],
        document["version"],
        document["event_hash"],
        document["recorded_at"],
        document["values"],
        {
            name: {field: Assertion(*assertion) for field, assertion in fields.items()}
            for name, fields in document["provenance"].items()
        },
        tuple(document["annulled"]),
        None if parked is None else Parked(**{**parked, "problems": tuple(parked["problems"])}),
    )


def change_document(change: FieldChange) -> Document:
    """A field change as JSON object; an absent value has no key."""
    document: Document = {"sub_schema": change.sub_schema, "field": change.field}
    if change.old is not ABSENT:
        document["old"] = change.old
    if change.new is not ABSENT:
        document["new"] = change.new
    if change.superseded:
        document["superseded"] = True
    return document


def change_from(document: Document) -> FieldChange:
    """The field change of a JSON object."""
    return FieldChange(
        document["sub_schema"],
        document["field"],
        document.get("old", ABSENT),
        document.get("new", ABSENT),
        document.get("superseded", False),
    )


def audit_document(entry: AuditEntry) -> Document:
    """An audit entry as JSON object."""
    return {
        "client_id": entry.client_id,
        "version": entry.version,
        "event_id": entry.event_id,
        "event_type": entry.event_type,
        "event_hash": entry.event_hash,
        "source": entry.source,
        "rule": entry.rule,
        "occurred_at": entry.occurred_at,
        "recorded_at": entry.recorded_at,
        "note": entry.note,
        "changes": [change_document(change) for change in entry.changes],
    }


def audit_from(document: Document) -> AuditEntry:
    """The audit entry of a JSON object."""
    return AuditEntry(**{**document, "changes": tuple(map(change_from, document["changes"]))})


def announced_document(announced: Announced) -> Document:
    """Announcement state as JSON object."""
    return announced._asdict()


def announced_from(document: Document) -> Announced:
    """The announcement state of a JSON object."""
    return Announced(**document)


def outbox_document(entry: OutboxEntry) -> Document:
    """An outbox entry as JSON object."""
    return {**entry._asdict(), "changes": [change_document(change) for change in entry.changes]}


def outbox_from(document: Document) -> OutboxEntry:
    """The outbox entry of a JSON object."""
    return OutboxEntry(**{**document, "changes": tuple(map(change_from, document["changes"]))})
