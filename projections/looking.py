"""One look at one client: what is stored of it, beside what its events come to."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eventstore import (
    CHANGED,
    MISSING,
    REWRITTEN,
    ChainCheck,
    ChainProblem,
    EventStore,
    HistoryForkedError,
    RecordedEvent,
)

from .comparing import EVENT, NOT_THERE, WHOLE_DOCUMENT, Comparison, Difference
from .documents import audit_document, record_document
from .fold import Failure, Folded, fold, model_of
from .parking import CATCHING_UP, park, still_parked
from .ports import AUDIT, RECORD, Mend, StoredDocument
from .record import Announced, AuditEntry, Json, empty_record
from .refold import fold_portions
from .report import Report
from .rules import Projection
from .stored import record_in
from .told import Told
from .trail import Trail, known_hash

_BEHIND = "is behind the events, which every sweep has passed"
_EVENT_PROBLEMS = {
    MISSING: "is missing, though something later knows of it",
    CHANGED: "does not match its hash, or does not follow the event before",
    REWRITTEN: "is not the event that was folded",
}


class Against(NamedTuple):
    """What clients are verified against.

    Attributes:
        projection: schema and rules.
        events: the truth.
        comparison: of documents.
        fingerprint: of the running code.
        projected_until: events recorded before this time should be folded; empty if that is not known.
    """

    projection: Projection[Any]
    events: EventStore
    comparison: Comparison
    fingerprint: str
    projected_until: str


class Seen(NamedTuple):
    """What a look saw.

    Attributes:
        events: how many events the client has.
        folded: what its events come to where its record stands, None if that cannot be said.
        differences: what is not as it should be.
        mends: what would mend the documents among them.
        announced: where to announce from, if what was announced is not what it should be.
        stands: a version to look at again, since the record does not say truly where it stands.
    """

    events: int
    folded: Folded | None
    differences: tuple[Difference, ...]
    mends: tuple[Mend, ...]
    announced: Announced | None = None
    stands: int | None = None


class Look:
    """Looks at a client once.

    Args:
        against: what it is verified against.
        client_id: text of the client id.
        stored: its record, announcement state and outbox entries.
        audit: its audit entries.
        heard: the highest number under which anybody was told of it.
        stands: where the record stands, if it does not say so truly.
    """

    def __init__(
        self,
        against: Against,
        client_id: str,
        stored: Iterable[StoredDocument],
        audit: Iterator[StoredDocument],
        *,
        heard: int,
        stands: int | None = None,
    ) -> None:
        self._against, self._projection = against, against.projection
        self._client_id, self._told_to_stand = client_id, stands
        self._stored = {(each.kind, each.number): each for each in stored}
        self._audit, self._compared = Trail(audit), 0  # up to which version
        self._chain, self._stream = ChainCheck(), against.events.read(client_id)
        self._report = Report(against.comparison)
        self._told = Told(against.projection, client_id, self._stored, heard, self._report)

        self._record = record_in(self._stored.get((RECORD, 0)))
        self._until = stands if stands is not None else self._record.version if self._record else 0
        self._contents: dict[int, dict[str, Json]] = {0: self._projection.layout.nothing}
        self._hash = ""  # of the event at which the record stands
        self._bears_hash_of = 0  # version of the event whose hash the record bears
        self._genuine = 0  # the last version behind the record whose audit entry bears the hash of its event
        self._strange: list[int] = []  # versions behind the record whose audit entry bears another hash
        self._late = ""  # when the first event after the record was recorded

    def __call__(self) -> Seen:
        """What there is to see."""
        try:
            return self._compare()
        except HistoryForkedError as error:  # an event that is none any more: what follows from it cannot be said
            self._chain.problems.append(ChainProblem(error.version, CHANGED))
            self._report_events(error.version)
            return self._seen(None)

    def _compare(self) -> Seen:
        start = model_of(self._projection, empty_record(self._client_id))
        readable = not isinstance(start, Failure)  # else parked from the beginning: there is nothing to compare with
        folded = self._fold(start) if readable else None
        tried = self._try_next(folded) if folded else None
        self._watch(self._stream)
        if self._chain.version == 0:
            if self._stored or not self._audit.is_at_end:  # each was written after an event
                self._report_event(1, MISSING)
            return self._seen(None)
        leftover = [*self._audit.rest()]
        sound = self._report_events(self._until)
        if folded is None:
            return self._seen(None)
        if sound and folded.failure is None and self._told_to_stand is None:
            stands = self._really_stands()
            if stands is not None:
                return self._seen(None, stands)
        if not (sound and self._is_history(leftover)):
            return self._seen(None)
        for document in leftover:
            self._report.remove(document, "no such event was folded")
        self._compare_record(folded, tried)
        self._told.compare(self._until, self._chain.version, self._contents)
        return self._seen(folded)

    def _seen(self, folded: Folded | None, stands: int | None = None) -> Seen:
        differences, mends = tuple(self._report.differences), tuple(self._report.mends)
        return Seen(self._chain.version, folded, differences, mends, self._told.announce_from, stands)

    # --- the events --------------------------------------------------------------------------------------------------

    def _fold(self, start: Any) -> Folded:
        """Fold up to where the record stands, as far as the chain is sound, comparing the audit on the way."""
        folded = fold(self._projection, empty_record(self._client_id), (), model=start)
        announced_at = {version for version in self._told.versions if 0 < version < self._until}
        for boundary in sorted({*announced_at, self._until}):
            portions = fold_portions(
                self._projection, self._against.events, folded.record, self._sound(boundary), model=folded.model
            )
            for portion in portions:
                self._compare_audit(portion.audit)
                folded = portion
            if folded.failure is not None or folded.record.version < boundary:
                break
            self._contents[boundary] = folded.contents or self._projection.contents(folded.model)
        return folded

    def _sound(self, until: int) -> Iterator[RecordedEvent]:
        while self._chain.version < until and (event := next(self._stream, None)) is not None:
            if not self._see(event):
                return
            yield event

    def _see(self, event: RecordedEvent) -> bool:
        sound = self._chain.see(event)
        if self._record is not None and event.hash == self._record.event_hash:
            self._bears_hash_of = event.version
        if event.version == self._until:
            self._hash = event.hash
        elif event.version > self._until:
            self._late = self._late or event.recorded_at
            known = known_hash(self._audit.at(event.version))
            if known == event.hash:
                self._genuine = event.version
            elif known and sound:
                self._strange.append(event.version)
        return sound

    def _watch(self, events: Iterable[RecordedEvent]) -> None:
        for event in events:
            self._see(event)

    def _try_next(self, folded: Folded) -> Folded | None:
        """What comes of the event at which the client is parked, None if that is no matter."""
        parked = self._record.parked if self._record else None
        if parked is None or parked.code == CATCHING_UP or parked.version == self._until or folded.failure:
            return None
        again = fold_portions(
            self._projection, self._against.events, folded.record, self._sound(self._until + 1), model=folded.model
        )
        return next(again, None)

    def _report_events(self, until: int) -> bool:
        """Report what the chain tells; whether all is sound up to a version."""
        for problem in self._chain.problems:
            self._report_event(problem.version, problem.problem)
        sound = not any(problem.version <= until for problem in self._chain.problems)
        if not sound:
            self._report_rewritten()
        return sound

    def _report_event(self, version: int, problem: str) -> None:
        self._report.add(EVENT, version, WHOLE_DOCUMENT, _EVENT_PROBLEMS[problem])

    def _really_stands(self) -> int | None:
        """Another version at which the record stands, if hashes say so."""
        bears = self._bears_hash_of or self._until
        stands = max(bears if self._record else 0, self._genuine)
        return stands if stands != self._until else None

    def _is_history(self, leftover: Sequence[StoredDocument]) -> bool:
        """Whether the events are those that any document knows of; reports those that are not.

        Args:
            leftover: audit entries behind the record.
        """
        head, until = self._chain.version, self._until
        vouches = self._record is not None and until == head and self._record.event_hash == self._hash
        told = 0 if vouches else self._told.knows_of  # an announcement from beyond such a record is itself wrong
        known = max([until, told, *(each.number for each in leftover if known_hash(each))])
        is_unknown = self._record is not None and self._record.event_hash != self._hash and until in self._unknown()
        if known <= head and not self._strange and not is_unknown:
            return True
        self._report_rewritten(*self._strange, *([until] * is_unknown))
        if known > head:
            self._report_event(head + 1, MISSING)
        return False

    def _report_rewritten(self, *others: int) -> None:
        """Report events that are not those of their audit entries, beside others, and leave these entries alone."""
        agreed, unknown = self._compared, self._unknown()
        while agreed in unknown:  # up to the one that is known, all events are genuine: each hash covers those before
            agreed -= 1
        rewritten = {version for version, path in unknown.items() if version > agreed and path == "event_hash"}
        rewritten.update(others)
        if rewritten:
            self._report.forget(AUDIT, min(rewritten))
        for version in sorted(rewritten):
            self._report_event(version, REWRITTEN)

    def _unknown(self) -> dict[int, str]:
        """Versions of which no audit entry bears the event's hash, and where that was noticed."""
        audit = [each for each in self._report.differences if each.kind == AUDIT]
        return {each.number: each.path for each in audit if each.path in {"event_hash", WHOLE_DOCUMENT}}

    # --- the documents -----------------------------------------------------------------------------------------------

    def _compare_audit(self, entries: Iterable[AuditEntry]) -> None:
        for entry in entries:
            stored = None
            for each in self._audit.until(entry.version):
                if each.number < entry.version:
                    self._report.remove(each, "no event has this version")
                else:
                    stored = each
            self._report.compare(AUDIT, entry.version, stored, audit_document(entry))
            self._compared = entry.version

    def _compare_record(self, folded: Folded, tried: Folded | None) -> None:
        stored, record = self._stored.get((RECORD, 0)), folded.record
        head, code = self._chain.version, self._against.fingerprint
        if folded.failure is not None:
            record = park(record, folded.failure, min(self._until, head), code)
        elif self._record is not None:
            record = record._replace(parked=still_parked(self._record.parked, self._until, head, tried, code))
        is_late, version = "" < self._late < self._against.projected_until, self._projection.version
        if stored is None and self._until == 0:
            if is_late and (version == 1 or self._told.was_announced_by(version)):
                self._report.add(RECORD, 0, WHOLE_DOCUMENT, NOT_THERE)
            return
        self._report.compare(RECORD, 0, stored, record_document(record), readable=self._record is not None)
        if is_late and record.parked is None and folded.failure is None:
            self._report.add(RECORD, 0, "version", _BEHIND)
