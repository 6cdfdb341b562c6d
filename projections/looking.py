"""One look at one client: what is stored of it, beside what its events come to."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from eventstore import CHANGED, MISSING, REWRITTEN, ChainCheck, EventStore, RecordedEvent

from .comparing import DIFFERS, NOT_EXPECTED, NOT_THERE, WHOLE_DOCUMENT, Comparison, Difference
from .documents import (
    Document,
    announced_from,
    audit_document,
    outbox_document,
    outbox_from,
    record_document,
    record_from,
)
from .fold import Failure, Folded, fold, model_of
from .parking import CATCHING_UP, park
from .ports import ANNOUNCED, AUDIT, OUTBOX, RECORD, Mend, StoredDocument
from .record import Announced, AuditEntry, Json, OutboxEntry, Parked, Record, content_hash, empty_record
from .refold import fold_portions
from .rules import Projection

EVENT = "event"
MOST = 500
"""Mends of one look; healing looks again for the rest."""

_UNREADABLE = "cannot be read"
_BEHIND = "is behind the events, which every sweep has passed"
_EVENT_PROBLEMS = {
    MISSING: "is missing, though something later knows of it",
    CHANGED: "does not match its hash, or does not follow the event before",
    REWRITTEN: "is not the event that was folded",
}
_NOTHING = content_hash(None)

Parsed = TypeVar("Parsed", Record, Announced, OutboxEntry)


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
        self._client_id, self._heard, self._told_to_stand = client_id, heard, stands
        self._stored = {(each.kind, each.number): each for each in stored}
        self._audit, self._next = audit, next(audit, None)
        self._aside: list[StoredDocument] = []  # audit entries that were not compared with anything
        self._chain, self._stream = ChainCheck(), against.events.read(client_id)
        self._differences: list[Difference] = []
        self._mends: list[Mend] = []
        self._announced: Announced | None = None

        self._record = _record(self._stored.get((RECORD, 0)))
        self._outbox = {n: _outbox(each) for (kind, n), each in self._stored.items() if kind == OUTBOX}
        self._until = stands if stands is not None else self._record.version if self._record else 0
        self._contents: dict[int, dict[str, Json]] = {0: self._projection.layout.nothing}
        self._hash = ""  # of the event at which the record stands
        self._bears_hash_of = 0  # version of the event whose hash the record bears
        self._genuine = 0  # the last version whose audit entry bears the hash of its event
        self._late = ""  # when the first event after the record was recorded

    def __call__(self) -> Seen:
        """What there is to see."""
        start = model_of(self._projection, empty_record(self._client_id))
        readable = not isinstance(start, Failure)  # else parked from the beginning: there is nothing to compare with
        folded = self._fold(start) if readable else None
        tried = self._try_next(folded) if folded else None
        self._watch(self._stream)
        leftover = [*self._rest_of_audit()]
        if self._chain.version == 0:
            self._report_orphans(leftover)
            return self._seen(None)
        sound = self._report_events(self._until)
        if folded is None:
            return self._seen(None)
        if sound and folded.failure is None and self._told_to_stand is None:
            stands = self._really_stands()
            if stands is not None:
                return self._seen(None, stands)
            sound = self._is_history(folded)
        if not sound:
            return self._seen(None)
        for document in leftover:
            self._remove(document, "no such event was folded")
        self._compare_record(folded, tried)
        self._compare_announced(folded)
        self._compare_outbox()
        return self._seen(folded)

    def _seen(self, folded: Folded | None, stands: int | None = None) -> Seen:
        differences, mends = tuple(self._differences), tuple(self._mends[:MOST])
        return Seen(self._chain.version, folded, differences, mends, self._announced, stands)

    # --- the events --------------------------------------------------------------------------------------------------

    def _fold(self, start: Any) -> Folded:
        """Fold up to where the record stands, as far as the chain is sound, comparing the audit on the way."""
        folded = fold(self._projection, empty_record(self._client_id), (), model=start)
        announced_at = {e.version for e in self._outbox.values() if e and 0 < e.version < self._until}
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
            if self._next_at(event.version, hash_=event.hash):
                self._genuine = event.version
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
            self._report(EVENT, problem.version, WHOLE_DOCUMENT, _EVENT_PROBLEMS[problem.problem])
        return not any(problem.version <= until for problem in self._chain.problems)

    def _really_stands(self) -> int | None:
        """Another version at which the record stands, if hashes say so."""
        bears = self._bears_hash_of or self._until
        stands = max(bears if self._record else 0, self._genuine)
        return stands if stands != self._until else None

    def _is_history(self, folded: Folded) -> bool:
        """Whether the events are those that were folded, as far as record and audit know."""
        if self._record is None or self._until == 0 or self._record.event_hash == self._hash:
            return True
        if folded.record.version < self._until:
            self._report(EVENT, self._chain.version + 1, WHOLE_DOCUMENT, _EVENT_PROBLEMS[MISSING])
            return False
        rewritten = [each.number for each in self._differences if each.kind == AUDIT and each.path == "event_hash"]
        if self._until not in rewritten:
            return True  # the last audit entry knows the event: it is the record that is wrong
        first = min(rewritten)
        self._differences = [each for each in self._differences if each.kind != AUDIT or each.number < first]
        self._mends = [each for each in self._mends if each.kind != AUDIT or each.number < first]
        for version in rewritten:
            self._report(EVENT, version, WHOLE_DOCUMENT, _EVENT_PROBLEMS[REWRITTEN])
        return False

    # --- the documents -----------------------------------------------------------------------------------------------

    def _compare_audit(self, entries: Iterable[AuditEntry]) -> None:
        for entry in entries:
            stored = None
            while self._next is not None and self._next.number <= entry.version:
                if self._next.number < entry.version:
                    self._remove(self._next, "no event has this version")
                else:
                    stored = self._next
                self._next = next(self._audit, None)
            self._compare(AUDIT, entry.version, stored, audit_document(entry))

    def _next_at(self, version: int, *, hash_: str) -> bool:
        """Whether there is an audit entry of this version, which bears this hash; those before it are put aside."""
        while self._next is not None and self._next.number < version:
            self._aside.append(self._next)
            self._next = next(self._audit, None)
        return self._next is not None and self._next.number == version and self._next.body.get("event_hash") == hash_

    def _rest_of_audit(self) -> Iterator[StoredDocument]:
        yield from self._aside
        while self._next is not None:
            yield self._next
            self._next = next(self._audit, None)

    def _compare_record(self, folded: Folded, tried: Folded | None) -> None:
        stored, record = self._stored.get((RECORD, 0)), folded.record
        if folded.failure is not None:
            record = park(record, folded.failure, min(self._until, self._chain.version), self._against.fingerprint)
        elif self._record is not None:
            record = record._replace(parked=self._parked(self._record.parked, tried))
        is_late = bool(self._late) and self._late < self._against.projected_until
        if stored is None and self._until == 0:
            announced = _announced(self._stored.get((ANNOUNCED, 0)))
            was_there = announced is not None and announced.projection_version == self._projection.version
            if is_late and (was_there or self._projection.version == 1):
                self._report(RECORD, 0, WHOLE_DOCUMENT, NOT_THERE)
            return
        self._compare(RECORD, 0, stored, record_document(record), readable=self._record is not None)
        if is_late and record.parked is None and folded.failure is None:
            self._report(RECORD, 0, "version", _BEHIND)

    def _parked(self, stored: Parked | None, tried: Folded | None) -> Parked | None:
        """Why the record should be parked, as far as that can be said."""
        if stored is None:
            return None
        head = self._chain.version
        if stored.code == CATCHING_UP:
            return stored if stored.version == self._until < stored.waiting_for <= head else None
        version, code, problems, fingerprint = stored.version, stored.code, stored.problems, stored.fingerprint
        if stored.version != self._until:
            if tried is None or tried.last is not None:  # it does not fail
                if tried is None or tried.audit[0].note != "annulled":
                    return None
            elif tried.failure is not None and fingerprint == self._against.fingerprint:
                version, code, problems = tried.failure
            version = self._until + 1
        waiting_for = max(version, min(stored.waiting_for, head))
        return Parked(version, waiting_for, code, tuple(problems), fingerprint)

    def _compare_announced(self, folded: Folded) -> None:
        stored = self._stored.get((ANNOUNCED, 0))
        announced = _announced(stored)
        told = max([self._heard, *self._outbox])
        before = len(self._differences)
        if stored is None or announced is None:
            if stored is not None or told > 0:
                self._report(ANNOUNCED, 0, WHOLE_DOCUMENT, NOT_THERE if stored is None else _UNREADABLE)
                self._tell_all(told)
            return
        for name in stored.beside:
            self._report(ANNOUNCED, 0, name, DIFFERS)
        start = announced
        if announced.seq < told:
            self._report(ANNOUNCED, 0, "seq", "is lower than what was announced", announced.seq, told)
            self._tell_all(told)
        if announced.projection_version == self._projection.version:
            if announced.version > self._chain.version:
                self._report(ANNOUNCED, 0, "version", "is beyond the events", announced.version, self._until)
                start = start._replace(version=self._until)
            if self._until >= start.version:
                self._compare_hashes(announced.hashes, folded)
        if len(self._differences) > before and self._announced is None:
            self._announced = start

    def _compare_hashes(self, stored: dict[str, str], folded: Folded) -> None:
        contents = self._contents.get(folded.record.version, {})
        expected = {name: content_hash(content) for name, content in contents.items()}
        known = set(self._projection.layout.names)
        for name in sorted(stored.keys() | expected.keys()):
            was, wanted = stored.get(name, _NOTHING), expected.get(name, _NOTHING)
            if was != wanted:
                self._report(ANNOUNCED, 0, f"hashes.{name if name in known else '*'}", DIFFERS, was, wanted)

    def _compare_outbox(self) -> None:
        numbers = sorted(self._outbox)
        announced = _announced(self._stored.get((ANNOUNCED, 0)))
        for number, entry in sorted(self._outbox.items()):
            stored = self._stored[OUTBOX, number]
            if entry is None:
                self._remove(stored, _UNREADABLE)
                self._tell_all(number)
                continue
            expected = entry._replace(
                client_id=self._client_id, projection=self._projection.name, seq=number, previous_seq=number - 1
            )
            if entry.projection_version == self._projection.version and entry.version in self._contents:
                at_that_version = self._contents[entry.version]
                contents = {name: at_that_version.get(name) for name in entry.contents if name in at_that_version}
                expected = expected._replace(contents=contents)
            self._compare(OUTBOX, number, stored, outbox_document(expected))
        last = announced.seq if announced is not None else 0
        for number, following in pairwise([*numbers, last + 1]):
            # They are deleted in order. What was lost is no matter once everything is told again.
            if following > number + 1 and not any(self._tells_all(each) for each in numbers if each > number):
                self._report(OUTBOX, number + 1, WHOLE_DOCUMENT, NOT_THERE)
                self._tell_all(last)

    def _tells_all(self, number: int) -> bool:
        entry = self._outbox[number]
        return entry is not None and entry.contents.keys() >= set(self._projection.layout.names)

    def _tell_all(self, seq: int) -> None:
        stored = _announced(self._stored.get((ANNOUNCED, 0)))
        seq = max(seq, stored.seq if stored else 0, self._heard, *self._outbox)
        names = dict.fromkeys(self._projection.layout.names, "")  # no content has this hash
        self._announced = Announced(seq, self._projection.version, self._until, names)

    def _report_orphans(self, audit: Sequence[StoredDocument]) -> None:
        for document in [*self._stored.values(), *audit]:
            self._remove(document, "the client has no events")

    # --- what was found ----------------------------------------------------------------------------------------------

    def _compare(
        self, kind: str, number: int, stored: StoredDocument | None, expected: Document, *, readable: bool = True
    ) -> None:
        before = len(self._differences)
        if stored is None:
            self._report(kind, number, WHOLE_DOCUMENT, NOT_THERE)
        elif not readable:
            self._report(kind, number, WHOLE_DOCUMENT, _UNREADABLE)
        else:
            found = self._against.comparison.differences(kind, number, stored.body, expected)
            self._differences += found
            for name in () if found else stored.beside:
                self._report(kind, number, name, "beside the document differs from it")
        if len(self._differences) > before:
            self._mends.append(Mend(kind, number, expected, stored.tag if stored else None))

    def _remove(self, stored: StoredDocument, why: str) -> None:
        self._report(stored.kind, stored.number, WHOLE_DOCUMENT, f"{NOT_EXPECTED}: {why}")
        self._mends.append(Mend(stored.kind, stored.number, None, stored.tag))

    def _report(self, kind: str, number: int, path: str, problem: str, *values: Json) -> None:
        self._differences.append(Difference(kind, number, path, problem, *values))


def _record(stored: StoredDocument | None) -> Record | None:
    record = _parsed(record_from, stored)
    if record is None or not (_are_counts(record.version) and isinstance(record.event_hash, str)):
        return None
    parked = record.parked
    return record if parked is None or _are_counts(parked.version, parked.waiting_for) else None


def _announced(stored: StoredDocument | None) -> Announced | None:
    found = _parsed(announced_from, stored)
    if found is None or not _are_counts(found.seq, found.projection_version, found.version):
        return None
    hashes: object = found.hashes
    return found if isinstance(hashes, dict) else None


def _outbox(stored: StoredDocument | None) -> OutboxEntry | None:
    found = _parsed(outbox_from, stored)
    if found is None or not _are_counts(found.version):
        return None
    contents: object = found.contents
    return found if isinstance(contents, dict) else None


def _are_counts(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _parsed(parse: Callable[[Document], Parsed], stored: StoredDocument | None) -> Parsed | None:
    """What a document says, None if there is none or it does not have the form of its kind."""
    try:
        return None if stored is None else parse(stored.body)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
