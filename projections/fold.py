"""The fold: a record and the events after it give the next record and its audit entries. Pure."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from eventstore import (
    Event,
    FieldProblem,
    InvalidClientIdError,
    InvalidEventError,
    RecordedEvent,
    UndecodableEventError,
    field_problems,
)

from .annulment import ANNULMENT, ANNULMENT_RULE, annulled_version
from .errors import InvalidEvolutionError
from .merging import Merged, merge
from .problems import problem_texts
from .record import Assertion, AuditEntry, FieldChange, Json, Record
from .rules import Projection, Rule
from .schema import UnifiedSchema

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of its recording a fact may claim to have become true."""


class Failure(NamedTuple):
    """Why an event could not be folded.

    Attributes:
        version: the event.
        code: stable short name of the reason.
        problems: `path: problem` for each field concerned; no values.
    """

    version: int
    code: str
    problems: tuple[str, ...]


class Folded(NamedTuple):
    """What a fold came to.

    Attributes:
        record: the record after the last event that was folded.
        model: the same as the user's model.
        audit: one entry for each event folded.
        last: the last event folded, None if there was none.
        failure: why the fold stopped before the end, if an event failed.
        annulment: the annulment before which it stopped: its event was folded with effect, so the state without it has
            to be worked out from the history.
        contents: the record by sub-schema as it is announced, if that was worked out already.
    """

    record: Record
    model: UnifiedSchema
    audit: tuple[AuditEntry, ...]
    last: RecordedEvent | None
    failure: Failure | None = None
    annulment: RecordedEvent | None = None
    contents: dict[str, Json] | None = None


def model_of(projection: Projection[Any], record: Record) -> UnifiedSchema | Failure:
    """The record as the user's model, or why the running schema cannot read it."""
    problems: tuple[str, ...] = ()
    try:
        model: UnifiedSchema = projection.build(record.client_id, record.values)
    except InvalidClientIdError:
        return Failure(record.version, "invalid_client_id", ())
    except ValidationError as error:
        problems = problem_texts(projection.schema, field_problems(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a validator of the schema; pure, so it fails each time
        problems = (f"(whole): raised {type(error).__name__}",)
    else:
        return model
    return Failure(record.version, "unreadable_record", problems)


def fold(
    projection: Projection[Any],
    record: Record,
    events: Iterable[RecordedEvent],
    *,
    annulled: Collection[int] = frozenset(),
    model: UnifiedSchema | None = None,
) -> Folded:
    """Fold events into a record, up to the first that fails.

    Args:
        projection: schema and rules.
        record: the record so far; its `parked` is not looked at and dropped.
        events: those after it, by ascending version without gaps.
        annulled: versions to pass over as if they had no rule.
        model: the record as model, if the caller has it already.

    Raises:
        InvalidClientIdError: the record's client id is none of the schema.
        pydantic.ValidationError: the record so far does not fit the schema.
    """
    if model is None:
        model = projection.build(record.client_id, record.values)
    state = Merged(model, record.values, record.provenance, ())
    passed = record.annulled
    audit: list[AuditEntry] = []
    last: RecordedEvent | None = None
    failure: Failure | None = None
    annulment: RecordedEvent | None = None
    for event in events:
        rule = projection.rules.get(event.event_type)
        occurred_at, note = event.occurred_at, None
        if occurred_at > event.recorded_at:
            occurred_at, note = _clamped(event)
        if event.version in annulled:
            passed = (*passed, event.version)
            entry = entry_of(event, None, occurred_at, "annulled", ())
        elif event.event_type == ANNULMENT and (target := annulled_version(event)):
            if target not in passed:
                annulment = event
                break
            entry = entry_of(event, ANNULMENT_RULE, occurred_at, note, ())
        else:
            stepped = _step(projection, rule, state, event, occurred_at)
            if isinstance(stepped, Failure):
                failure = stepped
                break
            state = stepped
            entry = entry_of(event, rule.name if rule else None, occurred_at, note, state.changes)
        audit.append(entry)
        last = event
    if last is not None:
        record = Record(
            record.client_id, last.version, last.hash, last.recorded_at, state.values, state.provenance, passed
        )
    return Folded(record._replace(parked=None), state.record, tuple(audit), last, failure, annulment)


def _step(
    projection: Projection[Any], rule: Rule | None, state: Merged, event: RecordedEvent, occurred_at: str
) -> Merged | Failure:
    """The state after one event, or why there is none.

    Whatever a pure function raises it raises each time, so it is a failure of this event. Only running out of memory
    is the machine's own trouble.
    """
    model: Any = projection.schema
    problems: Iterable[FieldProblem]
    try:
        decoded = projection.events.decode(event.event_type, event.schema_version, event.data)
        if rule is None:
            return state._replace(changes=())
        after = _apply(projection, rule, state.record, decoded)
        assertion = Assertion(occurred_at, event.version)
        return merge(projection.layout, state, after, assertion, regardless=rule.late == "apply")
    except UndecodableEventError as error:
        code, problems = error.code, error.problems
        model = next((known.model for known in projection.events if known.name == event.event_type), None)
    except _RuleError as error:
        return Failure(event.version, error.code, (error.problem,))
    except InvalidEventError as error:
        code, problems = "invalid_value", error.problems
    except PydanticSerializationError:
        code, problems = "invalid_value", [FieldProblem("(whole)", "a value has no JSON form")]
    except ValidationError as error:
        code, problems = "invalid_record", field_problems(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - parks the client, with nothing of the message, which may quote data
        code, problems = "fold_raised", [FieldProblem("(whole)", f"raised {type(error).__name__}")]
    return Failure(event.version, code, problem_texts(model, problems))


class _RuleError(Exception):
    def __init__(self, code: str, path: str, problem: str) -> None:
        super().__init__(code)
        self.code = code
        self.problem = f"{path}: {problem}"


def _apply(projection: Projection[Any], rule: Rule, record: UnifiedSchema, event: Event) -> UnifiedSchema:
    try:
        after: Any = rule.apply(record, event)
    except (ValidationError, MemoryError):
        raise
    except InvalidEvolutionError as error:
        raise _RuleError("invalid_evolution", error.path, "not in the schema") from error
    except Exception as error:
        raise _RuleError("rule_raised", rule.name, f"raised {type(error).__name__}") from error
    if type(after) is not projection.schema:
        problem = f"returned {type(after).__name__}, not {projection.schema.__name__}"
        raise _RuleError("rule_returned_other", rule.name, problem)
    if after.__dict__["id"] is not record.__dict__["id"] and after.__dict__["id"] != record.__dict__["id"]:
        raise _RuleError("client_id_changed", rule.name, "returned a record with another id")
    evolved: UnifiedSchema = after
    return evolved


def _clamped(event: RecordedEvent) -> tuple[str, str | None]:
    """The time that counts for an event that happened after it was recorded, and whether it had to be corrected."""
    if datetime.fromisoformat(event.occurred_at) - datetime.fromisoformat(event.recorded_at) > CLOCK_SKEW:
        return event.recorded_at, "clamped"
    return event.occurred_at, None


def entry_of(
    event: RecordedEvent, rule: str | None, occurred_at: str, note: str | None, changes: tuple[FieldChange, ...]
) -> AuditEntry:
    """The audit entry of an event."""
    return AuditEntry(
        event.client_id,
        event.version,
        event.event_id,
        event.event_type,
        event.hash,
        event.source,
        rule,
        occurred_at,
        event.recorded_at,
        note,
        changes,
    )
