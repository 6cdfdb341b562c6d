"""Queries: the record now, as of a version or time, its audit trail, and who is to blame for each field."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from eventstore import SAFE_INTEGER, EventStore, field_problems

from .errors import InvalidCursorError, UnknownClientError, UnreadableRecordError
from .merging import difference
from .ports import AuditFilter, AuditLog, ProjectionStore, Served
from .problems import problem_texts
from .record import Assertion, AuditEntry, FieldChange, Json, Record
from .refold import fold_portions, refold
from .rules import Projection
from .schema import UnifiedSchema

MAX_PAGE = 500


class RecordView(NamedTuple):
    """A record as a reader sees it.

    Attributes:
        record: as stored, or as worked out for an earlier time.
        model: the same as the user's model.
    """

    record: Record
    model: UnifiedSchema


class AuditPage(NamedTuple):
    """A part of an audit trail.

    Attributes:
        entries: by ascending version.
        cursor: continues after them; None at the end.
    """

    entries: Sequence[AuditEntry]
    cursor: str | None


class Blame(NamedTuple):
    """Who is to blame for the value of a field.

    Attributes:
        sub_schema: name of the sub-schema.
        field: name of the field, `*` for a sub-schema that is one value.
        value: its JSON value.
        asserted: time and version of the event that asserted it last.
        entry: that event's audit entry; None if the audit does not hold it.
    """

    sub_schema: str
    field: str
    value: Json
    asserted: Assertion
    entry: AuditEntry | None


class RecordDiff(NamedTuple):
    """What differs between two versions of a record.

    Attributes:
        before: the record at the first version.
        after: the record at the second one.
        changes: from the one to the other, by sub-schema and field.
    """

    before: RecordView
    after: RecordView
    changes: Sequence[FieldChange]


class RecordReader:
    """Answers questions about single clients.

    Args:
        projection: schema and rules.
        events: the history.
        store: the records.
        audit: the audit trails.
    """

    def __init__(
        self, projection: Projection[Any], events: EventStore, store: ProjectionStore, audit: AuditLog
    ) -> None:
        self._projection = projection
        self._events = events
        self._store = store
        self._audit = audit

    def current(self, client_id: str) -> RecordView:
        """The record as last committed, by this version of the projection or by an earlier one that got further.

        What an earlier version left and the running schema cannot read is folded anew on the spot.

        Raises:
            UnknownClientError: there is none.
            UnreadableRecordError: the running schema cannot read what it wrote itself, or what an earlier version left
                and the running rules cannot fold.
        """
        version, record = self._served(client_id)
        try:
            return RecordView(record, self._projection.build(client_id, record.values))
        except ValidationError as error:
            if version < self._projection.version:
                folded = refold(self._projection, self._events, client_id, until=record.version)
                if folded.failure is None:
                    return RecordView(folded.record, folded.model)
                # What was folded up to there is older than what was served before; a reader must not go back to it.
                failed = f"the running rules fail at event {folded.failure.version}"
                raise UnreadableRecordError(client_id, (failed, *folded.failure.problems)) from None
            problems = problem_texts(self._projection.schema, field_problems(error))
            raise UnreadableRecordError(client_id, problems) from None  # pydantic's own text may quote values

    def as_of_version(self, client_id: str, version: int) -> RecordView:
        """The record right after the event of that version; the latest if there are fewer or an event before it fails.

        Reads the history up to there, a portion at a time.

        Raises:
            UnknownClientError: the client has no event up to there.
        """
        folded = refold(self._projection, self._events, client_id, until=min(version, SAFE_INTEGER))
        if folded.record.version == 0:
            raise UnknownClientError(client_id)
        return RecordView(folded.record, folded.model)

    def diff(self, client_id: str, first: int, second: int) -> RecordDiff:
        """What differs between the record at two versions; the second may be the earlier one.

        Reads the history up to the later one, once.

        Raises:
            UnknownClientError: the client has no event up to the earlier version.
        """
        earlier, later = sorted((min(first, SAFE_INTEGER), min(second, SAFE_INTEGER)))
        at_earlier = at_later = refold(self._projection, self._events, client_id, until=earlier)
        record = at_earlier.record
        if record.version == 0:
            raise UnknownClientError(client_id)
        if at_earlier.failure is None:
            rest = self._events.read(client_id, after=record.version, until=later)
            portions = fold_portions(self._projection, self._events, record, rest, model=at_earlier.model)
            at_later = next(iter(deque(portions, maxlen=1)), at_earlier)
        views = [RecordView(folded.record, folded.model) for folded in (at_earlier, at_later)]
        before, after = views if first <= second else reversed(views)
        return RecordDiff(before, after, difference(before.record.values, after.record.values))

    def as_of_time(self, client_id: str, recorded_at: str) -> RecordView:
        """The record as it was known at a time: after the last event recorded then or before.

        Args:
            client_id: text of the client id.
            recorded_at: in UTC text form.

        Raises:
            UnknownClientError: nothing had been recorded by then.
        """
        version = 0
        for event in self._events.read(client_id):
            if event.recorded_at > recorded_at:
                break
            version = event.version
        if version == 0:
            raise UnknownClientError(client_id)
        return self.as_of_version(client_id, version)

    def audit(
        self, client_id: str, where: AuditFilter | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> AuditPage:
        """A page of the audit trail, in the generation whose record is served; the next pages stay in it.

        Args:
            client_id: text of the client id.
            where: which entries; None is all.
            cursor: from the page before, with the same client and filter.
            limit: entries of the page, at most 500.

        Raises:
            InvalidCursorError: the cursor belongs to another query.
        """
        where = where or AuditFilter()
        scope = _scope(self._projection.name, client_id, where)
        version, after = (self._audited(client_id), 0) if cursor is None else _after(cursor, scope)
        if version > self._projection.version:
            raise InvalidCursorError
        limit = max(1, min(limit, MAX_PAGE))
        entries = self._audit.entries(client_id, where, after=after, limit=limit + 1, projection_version=version)
        more = len(entries) > limit
        entries = entries[:limit]
        return AuditPage(entries, _cursor(scope, version, entries[-1].version) if more else None)

    def blame(self, client_id: str) -> Sequence[Blame]:
        """For each field that has a value, who asserted it last.

        Raises:
            UnknownClientError: there is no record.
        """
        projection_version, record = self._served(client_id)
        fields = [
            (name, field, value, record.provenance[name][field])
            for name, values in sorted(record.values.items())
            for field, value in sorted(values.items())
        ]
        entries = {
            version: next(iter(self._entries(client_id, version, projection_version)), None)
            for version in {asserted.version for *_, asserted in fields}
        }
        return [Blame(name, field, value, said, entries[said.version]) for name, field, value, said in fields]

    def _entries(self, client_id: str, version: int, projection_version: int) -> Sequence[AuditEntry]:
        return self._audit.entries(
            client_id, AuditFilter(), after=version - 1, until=version, projection_version=projection_version
        )

    def _served(self, client_id: str) -> Served:
        served = self._store.newest(client_id)
        if served is None:
            raise UnknownClientError(client_id)
        return served

    def _audited(self, client_id: str) -> int:
        """The projection version whose trail is the client's; the first one has no predecessor to ask about."""
        if self._projection.version == 1:
            return 1
        served = self._store.newest(client_id)
        return self._projection.version if served is None else served.projection_version


def _scope(projection: str, client_id: str, where: AuditFilter) -> str:
    question = [projection, client_id, where.sub_schema, where.field, where.event_type, where.source, where.since]
    return sha256(orjson.dumps([*question, where.until])).hexdigest()[:16]


def _cursor(scope: str, projection_version: int, version: int) -> str:
    return urlsafe_b64encode(orjson.dumps([scope, projection_version, version])).decode().rstrip("=")


def _after(cursor: str, scope: str) -> tuple[int, int]:
    """Projection version and version of the last entry of the page before."""
    try:
        found = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (Base64Error, ValueError):
        raise InvalidCursorError from None
    match found:
        case [str(scoped), int(projection_version), int(version)] if (
            scoped == scope
            and type(projection_version) is int
            and type(version) is int
            and projection_version >= 1
            and 0 <= version <= SAFE_INTEGER
        ):
            return projection_version, version
    raise InvalidCursorError
