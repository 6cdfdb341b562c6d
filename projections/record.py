"""What a fold produces and the projection store keeps: records, audit entries, announcements.

Values are JSON. A sub-schema is the fields that events asserted; a field nobody asserted is absent, which is not null.
"""

from enum import Enum
from hashlib import blake2b
from typing import Final, NamedTuple

from eventstore import canonical_json

Json = object


class _Absent(Enum):
    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent.ABSENT
"""The value of a field that is not there."""

WHOLE: Final = "*"
"""Field name under which a sub-schema that is one value stands in values, provenance and audit."""

ROOT: Final = "root"
"""Sub-schema of the plain values at the top of a unified schema."""

Values = dict[str, dict[str, Json]]
"""JSON values by sub-schema and field; empty sub-schemas are left out."""


class Assertion(NamedTuple):
    """Who said last what a field is.

    Attributes:
        occurred_at: when the fact became true, in UTC text form.
        version: version of the event that said it.
    """

    occurred_at: str
    version: int


Provenance = dict[str, dict[str, Assertion]]
"""The last assertion by sub-schema and field, also for fields that were asserted absent."""


class Parked(NamedTuple):
    """Why a client does not go on.

    Attributes:
        version: the event that fails; the record's own version if the record cannot be gone on from.
        waiting_for: the version that has to be reached once it can go on.
        code: stable short name of the reason; `catching_up` while it is on its way to `waiting_for`.
        problems: `path: problem` for each field concerned; no values.
        fingerprint: the code that failed; other code tries again by itself.
    """

    version: int
    waiting_for: int
    code: str
    problems: tuple[str, ...]
    fingerprint: str


class Record(NamedTuple):
    """A client as one generation of a projection knows it.

    Attributes:
        client_id: text of the client id.
        version: version of the last event folded; 0 is a client without events.
        event_hash: hash of that event, to notice a forked history.
        recorded_at: when that event was recorded, in UTC text form.
        values: the state.
        provenance: who asserted it.
        annulled: versions that were passed over because they are annulled.
        parked: why the next event cannot be folded, None if it can.
    """

    client_id: str
    version: int
    event_hash: str
    recorded_at: str
    values: Values
    provenance: Provenance
    annulled: tuple[int, ...] = ()
    parked: Parked | None = None


def empty_record(client_id: str) -> Record:
    """The record of a client before its first event."""
    return Record(client_id, 0, "", "", {}, {})


class FieldChange(NamedTuple):
    """One field that an event changed, or tried to.

    Attributes:
        sub_schema: name of the sub-schema, `root` for plain values at the top.
        field: name of the field, `*` for a sub-schema that is one value.
        old: JSON value before, `ABSENT` if the field was not there.
        new: JSON value asserted, `ABSENT` if the field was removed.
        superseded: whether it was not applied, because the field was asserted by a later fact already.
    """

    sub_schema: str
    field: str
    old: Json
    new: Json
    superseded: bool = False


class AuditEntry(NamedTuple):
    """What one event did to the record of its client.

    Attributes:
        client_id: text of the client id.
        version: version of the event.
        event_id: its id.
        event_type: its registered name.
        event_hash: its hash, so that the trail can be checked against the history.
        source: the system it came from.
        rule: name of the update rule; None if there is none for this event type.
        occurred_at: when the fact became true, in UTC text form.
        recorded_at: when it was recorded, in UTC text form.
        note: `clamped` if it claimed to lie in the future and counts as recorded_at, `annulled` if it was passed over.
        changes: the fields it changed, or tried to.
    """

    client_id: str
    version: int
    event_id: str
    event_type: str
    event_hash: str
    source: str
    rule: str | None
    occurred_at: str
    recorded_at: str
    note: str | None
    changes: tuple[FieldChange, ...]


class Announced(NamedTuple):
    """What the world was last told of a client.

    Attributes:
        seq: number of the last announcement; 0 is none yet.
        projection_version: version of the projection that announced.
        version: version of the record then.
        hashes: hash of each sub-schema's content as announced.
    """

    seq: int
    projection_version: int
    version: int
    hashes: dict[str, str]


class OutboxEntry(NamedTuple):
    """An announcement that was committed with a record and still has to be published.

    Attributes:
        client_id: text of the client id.
        projection: name of the projection.
        projection_version: its version.
        seq: number of this announcement among the client's, ascending.
        previous_seq: number of the one before; 0 for the first.
        version: version of the record.
        recorded_at: when its last event was recorded, in UTC text form.
        contents: the sub-schemas that differ from what was announced before: JSON object, or None if removed. Plain
            values at the top of the schema are the sub-schema `root`.
        changes: the field changes of the commit, without superseded ones.
        correlation_id: of the last event of the commit.
        traceparent: of the last event of the commit.
    """

    client_id: str
    projection: str
    projection_version: int
    seq: int
    previous_seq: int
    version: int
    recorded_at: str
    contents: dict[str, Json]
    changes: tuple[FieldChange, ...]
    correlation_id: str | None = None
    traceparent: str | None = None


def content_hash(content: Json) -> str:
    """Short hash of a JSON value, to tell whether it changed."""
    return blake2b(canonical_json(content), digest_size=16).hexdigest()
