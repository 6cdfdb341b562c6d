"""What queries and commands show: records, audit, blame, deliveries as JSON objects."""

from typing import Any

from integrations import DeliveryState, LogEntry
from projections import Blame, Parked, Projection, RecordDiff, RecordView, audit_document, change_document

Json = dict[str, Any]


def record_json(projection: Projection[Any], view: RecordView) -> Json:
    """A record: its version, its content by sub-schema, and why it is parked, if it is."""
    record = view.record
    return {
        "client_id": record.client_id,
        "version": record.version,
        "recorded_at": record.recorded_at,
        "generation": projection.generation,
        "record": projection.contents(view.model),
        "parked": parked_json(record.parked),
    }


def diff_json(diff: RecordDiff) -> Json:
    """What differs between two versions of a record; the versions are those that were found."""
    return {
        "client_id": diff.after.record.client_id,
        "from": diff.before.record.version,
        "to": diff.after.record.version,
        "changes": [change_document(change) for change in diff.changes],
    }


def parked_json(parked: Parked | None) -> Json | None:
    """Why a client does not go on."""
    if parked is None:
        return None
    return {
        "version": parked.version,
        "waiting_for": parked.waiting_for,
        "code": parked.code,
        "problems": list(parked.problems),
    }


def blame_json(blame: Blame) -> Json:
    """Who is to blame for a field."""
    entry = blame.entry
    return {
        "sub_schema": blame.sub_schema,
        "field": blame.field,
        "value": blame.value,
        "occurred_at": blame.asserted.occurred_at,
        "version": blame.asserted.version,
        "event_type": entry.event_type if entry else None,
        "event_id": entry.event_id if entry else None,
        "source": entry.source if entry else None,
        "rule": entry.rule if entry else None,
    }


def state_json(state: DeliveryState) -> Json:
    """Where a delivery stands."""
    return state._asdict()


def log_json(entry: LogEntry) -> Json:
    """One attempt at a delivery."""
    return entry._asdict()


__all__ = ["audit_document", "blame_json", "diff_json", "log_json", "parked_json", "record_json", "state_json"]
