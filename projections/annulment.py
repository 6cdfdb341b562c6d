"""Annulment: an event that says another event does not count.

History is never changed. An event that should not have happened, or that no rule can digest, is annulled by a later
event of the same client. An event that fails is then passed over at its place, as one without a rule. If it had been
folded, the annulment's own audit entry holds the difference, so that every earlier version of the record stays what it
was.
"""

from collections.abc import Iterable
from datetime import datetime

from eventstore import (
    ANY,
    SAFE_INTEGER,
    EventData,
    EventStore,
    FieldProblem,
    InvalidEventError,
    RecordedEvent,
    normalize,
)

from .errors import AnnulmentError

ANNULMENT = "flow.event_annulled"
ANNULMENT_RULE = "annulment"
_SOURCE = "flow"


def annulled_version(event: RecordedEvent) -> int | None:
    """The version that this event annuls, None if it is no annulment."""
    if event.event_type != ANNULMENT:
        return None
    version = event.data.get("version")
    return version if type(version) is int and 0 < version < event.version else None


def annulled_versions(events: Iterable[RecordedEvent]) -> frozenset[int]:
    """The versions that the annulments among these events annul."""
    return frozenset(version for event in events if (version := annulled_version(event)) is not None)


def annul(store: EventStore, client_id: str, version: int, *, reason: str, by: str, now: datetime) -> RecordedEvent:
    """Append the annulment of an event; the same call again changes nothing.

    Args:
        store: where the client's stream is.
        client_id: text of the client id.
        version: the event that does not count.
        reason: why, for the audit trail.
        by: who says so.
        now: the time of the annulment, with an offset.

    Raises:
        AnnulmentError: there is no such event, or it is an annulment.
        EventIdReusedError: it was annulled before for another reason or by somebody else.
        InvalidEventError: reason, by or time cannot be stored.
    """
    if now.utcoffset() is None:
        raise InvalidEventError(FieldProblem("now", "a time needs an offset"))
    found = next(store.read(client_id, after=version - 1, until=version), None) if 0 < version <= SAFE_INTEGER else None
    if found is None:
        raise AnnulmentError(client_id, version, "the client has no such event")
    if annulled_version(found) is not None:
        raise AnnulmentError(client_id, version, "it is an annulment itself; append the annulled fact again instead")
    data = EventData(
        event_id=f"{_SOURCE}:annul:{version}",
        event_type=ANNULMENT,
        schema_version=1,
        source=_SOURCE,
        occurred_at=now,
        data=normalize({"version": version, "reason": reason, "by": by}),
    )
    return store.append(client_id, [data], expected_version=ANY).events[0]
