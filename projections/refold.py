"""Folding a stream in portions, with what a single fold cannot know: annulments that come later in the history."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from eventstore import EventStore, RecordedEvent, canonical_json

from .annulment import ANNULMENT_RULE, annulled_versions
from .fold import Failure, Folded, entry_of, fold
from .merging import difference
from .record import AuditEntry, Record, empty_record
from .rules import Projection
from .schema import UnifiedSchema

PORTION = 90
"""Events of one commit: with record, announcement state and outbox a Cosmos DB batch of at most 100 operations."""
MAX_RECORD_BYTES = 400_000
"""A larger record parks its client: it has to fit a document of 2 MB with provenance and escapes, and a message."""


def fold_portions(
    projection: Projection[Any],
    store: EventStore,
    record: Record,
    events: Iterable[RecordedEvent],
    *,
    model: UnifiedSchema | None = None,
) -> Iterator[Folded]:
    """Fold events in portions of at most 90, each ready to be committed, up to the end or the first failure.

    An event that fails is passed over if a later event of the stream annuls it. An annulment of an event that was
    folded before is worked out by folding the history without it.

    Args:
        projection: schema and rules.
        store: where the client's stream can be read.
        record: where to start.
        events: the events after it, by ascending version without gaps.
        model: the record as model, if the caller has it already.
    """
    source = iter(events)
    portion = list(islice(source, PORTION))
    while portion:
        folded = _fold_portion(projection, record, portion, model)
        if folded.failure is not None:
            annulled = annulled_versions(store.read(record.client_id, after=folded.failure.version))
            if folded.failure.version in annulled:
                folded = _fold_portion(projection, record, portion, model, annulled)
        if folded.annulment is not None and folded.last is None:
            folded = _take_back(projection, store, record, folded.annulment)
        if folded.last is not None or folded.failure is not None:
            yield folded
        if folded.failure is not None:
            return
        done = folded.record.version - record.version
        record, model = folded.record, folded.model
        portion = portion[done:] or list(islice(source, PORTION))


def refold(projection: Projection[Any], store: EventStore, client_id: str, *, until: int | None = None) -> Folded:
    """Fold a client's history from its first event; holds one portion of it in memory.

    Args:
        projection: schema and rules.
        store: where the client's stream can be read.
        client_id: text of the client id.
        until: the last version to fold; None folds all.
    """
    record = empty_record(client_id)
    folded = fold(projection, record, ())
    for folded in fold_portions(projection, store, record, store.read(client_id, until=until)):  # noqa: B007
        pass
    return folded


def _fold_portion(
    projection: Projection[Any],
    record: Record,
    portion: Sequence[RecordedEvent],
    model: UnifiedSchema | None,
    annulled: Collection[int] = frozenset(),
) -> Folded:
    """Fold a portion; an event that makes the record too large fails."""
    folded = fold(projection, record, portion, annulled=annulled, model=model)
    if not _too_large(folded.record):
        return folded
    audit: list[AuditEntry] = []
    last = fold(projection, record, (), model=model)
    for event in portion:
        step = fold(projection, last.record, [event], annulled=annulled, model=last.model)
        if _too_large(step.record):
            problem = f"(whole): the record would take more than {MAX_RECORD_BYTES} bytes"
            return last._replace(failure=Failure(event.version, "record_too_large", (problem,)), audit=tuple(audit))
        audit += step.audit
        last = step
    return last._replace(audit=tuple(audit))


def _too_large(record: Record) -> bool:
    return len(canonical_json(record.values)) > MAX_RECORD_BYTES


def _take_back(projection: Projection[Any], store: EventStore, record: Record, annulment: RecordedEvent) -> Folded:
    """The record after an annulment of an event that had taken effect."""
    annulled = {*record.annulled, *annulled_versions([annulment])}
    without = empty_record(record.client_id)
    source = store.read(record.client_id, until=record.version)
    model = None
    while portion := list(islice(source, PORTION)):
        folded = fold(projection, without, portion, annulled=annulled, model=model)
        if folded.failure is not None:
            failed = Failure(annulment.version, folded.failure.code, folded.failure.problems)
            return fold(projection, record, ())._replace(failure=failed)
        without, model = folded.record, folded.model
    changes = difference(record.values, without.values)
    after = without._replace(
        version=annulment.version,
        event_hash=annulment.hash,
        recorded_at=annulment.recorded_at,
        annulled=tuple(sorted(annulled)),
    )
    entry = entry_of(annulment, ANNULMENT_RULE, annulment.occurred_at, None, changes)
    return Folded(after, projection.build(record.client_id, after.values), (entry,), annulment)
