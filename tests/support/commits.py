"""Records, audit entries and announcements as a projector would commit them, made by hand."""

from datetime import datetime, timedelta
from typing import Any, Protocol

from eventstore import utc_text
from projections import (
    ABSENT,
    Announced,
    Assertion,
    AuditEntry,
    AuditLog,
    Commit,
    FieldChange,
    Outbox,
    OutboxEntry,
    Parked,
    ProjectionStore,
    Record,
)
from tests.support.clients import NOON


class Store(ProjectionStore, AuditLog, Outbox, Protocol):
    """What one backend offers for a projection."""


class SettableClock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, minutes: float) -> str:
        """Let time pass; returns what it is then, as text."""
        self.now += timedelta(minutes=minutes)
        return utc_text(self.now)


def minute(number: float) -> str:
    """A time as text."""
    return utc_text(NOON + timedelta(minutes=number))


def record_at(version: int, client_id: str = "1", *, parked: Parked | None = None, **values: Any) -> Record:
    """A record whose contact has these values."""
    return Record(
        client_id=client_id,
        version=version,
        event_hash=f"hash of {version}",
        recorded_at=minute(version),
        values={"contact": values} if values else {},
        provenance={"contact": {name: Assertion(minute(0), version) for name in values}} if values else {},
        parked=parked,
    )


def entry_at(
    version: int, *changes: FieldChange, client_id: str = "1", event_type: str = "client.contacted", source: str = "crm"
) -> AuditEntry:
    """The audit entry of an event that was recorded that many minutes after noon."""
    return AuditEntry(
        client_id=client_id,
        version=version,
        event_id=f"{source}:{version}",
        event_type=event_type,
        event_hash=f"hash of {version}",
        source=source,
        rule="contacted" if changes else None,
        occurred_at=minute(0),
        recorded_at=minute(version),
        note=None,
        changes=changes,
    )


def changed(field: str = "email", sub_schema: str = "contact", *, superseded: bool = False) -> FieldChange:
    """A change of a field."""
    return FieldChange(sub_schema, field, ABSENT, "ñ", superseded)


def announced_at(seq: int, version: int = 1) -> Announced:
    """Announcement state after that many announcements."""
    return Announced(seq, 1, version, {"contact": f"{seq:032}"})


def outbox_at(seq: int, client_id: str = "1", version: int = 1) -> OutboxEntry:
    """An announcement."""
    return OutboxEntry(
        client_id=client_id,
        projection="clients",
        projection_version=1,
        seq=seq,
        previous_seq=seq - 1,
        version=version,
        recorded_at=minute(version),
        contents={"contact": {"email": None, "phone": "1"}, "address": None},
        changes=(changed(), FieldChange("contact", "phone", None, ABSENT)),
        correlation_id="c",
        traceparent=None,
    )


def put(store: ProjectionStore, record: Record, *audit: AuditEntry, outbox: OutboxEntry | None = None) -> None:
    """Commit on top of what is there."""
    loaded = store.load([record.client_id])[record.client_id]
    announced = announced_at(outbox.seq, outbox.version) if outbox else None
    (stored,) = store.commit([Commit(loaded, record, audit, announced, outbox)])
    assert stored is not None, "the commit was lost"
