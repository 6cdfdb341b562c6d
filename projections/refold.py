"""Folding a stream in portions that can be committed, with what a single fold cannot know: annulments that come later."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError

from eventstore import EventStore, FieldProblem, RecordedEvent, canonical_json, field_problems

from .annulment import ANNULMENT_RULE, annulled_versions
from .fold import Failure, Folded, entry_of, fold
from .merging import difference
from .problems import problem_texts
from .record import Record, empty_record
from .rules import Projection
from .schema import UnifiedSchema

PORTION = 90
"""Events of one commit: with record, announcement state and outbox a Cosmos DB batch of at most 100 operations."""
MAX_AUDIT_BYTES = 300_000
"""Values in the audit entries of one commit of more than one event; they go into the outbox once more, beside the record."""
MAX_RECORD_BYTES = 400_000
"""A larger record parks its client: it has to fit a document of 2 MB with provenance and escapes, and a message."""


def fold_portions(
    projection: Projection[Any],
    store: EventStore,
    record: Record,
    events: Iterable[RecordedEvent],
    *,
    model: UnifiedSchema | None = None,
    annulled: Collection[int] = (),
    size: int = PORTION,
) -> Iterator[Folded]:
    """Fold events in portions, each ready to be committed, up to the end or the first failure.

    An event that fails is passed over if a later event of the stream annuls it. An annulment of an event that was
    folded before is worked out by folding the history without it.

    Args:
        projection: schema and rules.
        store: where the client's stream can be read.
        record: where to start.
        events: the events after it, by ascending version without gaps.
        model: the record as model, if the caller has it already.
        annulled: versions to pass over, failing or not.
        size: events of a portion at most.
    """
    passed = set(annulled)
    source = iter(events)
    portion = list(islice(source, size))
    while portion:
        folded = _fold_portion(projection, record, portion, model, passed)
        failure = folded.failure
        if failure is not None and failure.version not in passed and is_annulled(store, record, failure.version):
            passed.add(failure.version)
            folded = folded._replace(failure=None)
        elif folded.annulment is not None and folded.last is None:
            folded = _take_back(projection, store, record, folded.annulment)
        if folded.last is not None or folded.failure is not None:
            yield folded
        if folded.failure is not None:
            return
        portion = portion[folded.record.version - record.version :] or list(islice(source, size))
        record, model = folded.record, folded.model


def refold(projection: Projection[Any], store: EventStore, client_id: str, *, until: int | None = None) -> Folded:
    """Fold a client's history from its first event; holds one portion of it in memory.

    Args:
        projection: schema and rules.
        store: where the client's stream can be read.
        client_id: text of the client id.
        until: the last version to fold; None folds all.

    Raises:
        InvalidClientIdError: the text is no id of the schema.
    """
    record = empty_record(client_id)
    last = deque(fold_portions(projection, store, record, store.read(client_id, until=until)), maxlen=1)
    return last[0] if last else fold(projection, record, ())


def is_annulled(store: EventStore, record: Record, version: int) -> bool:
    """Whether a later event of the client annuls that version."""
    return version in annulled_versions(store.read(record.client_id, after=version))


def _fold_portion(
    projection: Projection[Any],
    record: Record,
    portion: Sequence[RecordedEvent],
    model: UnifiedSchema | None,
    annulled: Collection[int],
) -> Folded:
    """Fold as much of a portion as one commit can hold; an event after which the record cannot be kept fails."""
    folded = fold(projection, record, portion, annulled=annulled, model=model)
    if folded.last is None:
        return folded
    settled = _settle(projection, folded)
    done = len(folded.audit)
    if done > 1 and (isinstance(settled, Failure) or _audit_bytes(folded) > MAX_AUDIT_BYTES):
        return _fold_portion(projection, record, portion[: done // 2], model, annulled)
    if isinstance(settled, Failure):
        return fold(projection, record, (), model=model)._replace(failure=settled)
    return settled


def _settle(projection: Projection[Any], folded: Folded) -> Folded | Failure:
    """The fold with the record as everybody will load it, or why its values cannot be kept.

    What rules left in memory can differ from what its JSON values give, as a tuple where a list is read back. The next
    portion, and what is announced, start from the latter, so nothing depends on where portions end.
    """
    record = folded.record
    if len(canonical_json(record.values)) > MAX_RECORD_BYTES:
        problem = FieldProblem("(whole)", f"the record would take more than {MAX_RECORD_BYTES} bytes")
        return Failure(record.version, "record_too_large", problem_texts(None, [problem]))
    try:
        model = projection.layout.rebuild(folded.model, record.values)
        return folded._replace(model=model, contents=projection.contents(model))
    except ValidationError as error:
        return Failure(record.version, "invalid_record", problem_texts(projection.schema, field_problems(error)))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a validator or computed field of the schema; pure, so it fails each time
        problem = FieldProblem("(whole)", f"raised {type(error).__name__}")
        return Failure(record.version, "fold_raised", problem_texts(None, [problem]))


def _audit_bytes(folded: Folded) -> int:
    return len(orjson.dumps([change[2:4] for entry in folded.audit for change in entry.changes]))


def _take_back(projection: Projection[Any], store: EventStore, record: Record, annulment: RecordedEvent) -> Folded:
    """The record after an annulment of an event that had taken effect."""
    annulled = {*record.annulled, *annulled_versions([annulment])}
    history = store.read(record.client_id, until=record.version)
    start = empty_record(record.client_id)
    (without,) = deque(fold_portions(projection, store, start, history, annulled=annulled), maxlen=1)
    if without.failure is not None:
        problem = f"(whole): without the annulled event, version {without.failure.version} fails"
        failure = Failure(annulment.version, without.failure.code, (problem, *without.failure.problems))
        return fold(projection, record, ())._replace(failure=failure)
    changes = difference(record.values, without.record.values)
    after = without.record._replace(
        version=annulment.version,
        event_hash=annulment.hash,
        recorded_at=annulment.recorded_at,
        annulled=tuple(sorted({*annulled, *without.record.annulled})),
    )
    entry = entry_of(annulment, ANNULMENT_RULE, annulment.occurred_at, None, changes)
    return without._replace(record=after, audit=(entry,), last=annulment)
