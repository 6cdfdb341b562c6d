"""Field by field: what a rule asserted, which of it applies, and what changed.

A source may deliver late and out of order. Per field the assertion with the newest occurred time holds, by version
among equal ones; an older one is not applied. Removing a sub-schema asserts each of its fields absent. So with distinct
times every order of the same assertions ends in the same values.
"""

from collections.abc import Collection
from operator import itemgetter
from typing import Any, NamedTuple

from eventstore import canonical_json, normalize

from .layout import Layout
from .record import ABSENT, ROOT, Assertion, FieldChange, Json, Provenance, Values
from .schema import UnifiedSchema, assertions, forget_assertions

_NOTHING: dict[str, Any] = {}
_PLACE = itemgetter(0, 1)  # sub-schema and field of a change


class Merged(NamedTuple):
    """A client's state and what the last event changed in it.

    Attributes:
        record: the record with everything that applies.
        values: its JSON values.
        provenance: who asserted them.
        changes: what changed, and what was superseded.
    """

    record: UnifiedSchema
    values: Values
    provenance: Provenance
    changes: tuple[FieldChange, ...]


def merge(
    layout: Layout[Any], before: Merged, after: UnifiedSchema, assertion: Assertion, *, regardless: bool
) -> Merged:
    """The state after a rule turned the record of `before` into `after`; `before` is left as it is.

    Args:
        layout: of the schema.
        before: the state the rule was given.
        after: the record the rule returned.
        assertion: time and version of the event.
        regardless: apply also what is older than the present assertion.

    Raises:
        InvalidEventError: a value that no backend could keep.
        pydantic.ValidationError: what remains after superseding is not a valid record.
        pydantic_core.PydanticSerializationError: a value is not of its declared type.
    """
    if after is before.record:
        return Merged(after, before.values, before.provenance, ())
    values, provenance = before.values, before.provenance
    changes: list[FieldChange] = []
    for name, asserted, new in _touched(layout, before.record, after):
        said = {**provenance.get(name, _NOTHING)}
        old = values.get(name, _NOTHING)
        kept = {**old}
        for field in {*asserted, *new, *old}:
            change = _change(name, field, old.get(field, ABSENT), new.get(field, ABSENT))
            if change is None and field not in asserted:
                continue
            superseded = not regardless and field in said and said[field].occurred_at > assertion.occurred_at
            if change is not None:
                changes.append(change._replace(superseded=True) if superseded else change)
            if not superseded:
                said[field] = assertion
                _set(kept, change)
        values, provenance = {**values, name: kept}, {**provenance, name: said}
        if not kept:
            del values[name]
    # What `evolve` made is valid; a record copied or made otherwise may be anything.
    if not assertions(after) or any([change.superseded for change in changes]):
        after = layout.rebuild(after, values)
    forget_assertions(after)
    return Merged(after, values, provenance, tuple(sorted(changes, key=_PLACE) if len(changes) > 1 else changes))


def difference(before: Values, after: Values) -> tuple[FieldChange, ...]:
    """The fields in which two states differ."""
    return tuple(
        FieldChange(name, field, old.get(field, ABSENT), new.get(field, ABSENT))
        for name in sorted(before.keys() | after.keys())
        for old, new in [(before.get(name, _NOTHING), after.get(name, _NOTHING))]
        for field in sorted(old.keys() | new.keys())
        if _unequal(old.get(field, ABSENT), new.get(field, ABSENT))
    )


def apply_changes(values: Values, changes: tuple[FieldChange, ...]) -> Values:
    """The state after the changes of an audit entry; how the trail is replayed."""
    replayed = {name: dict(fields) for name, fields in values.items()}
    for change in changes:
        if change.superseded:
            continue
        fields = replayed.setdefault(change.sub_schema, {})
        _set(fields, change)
        if not fields:
            del replayed[change.sub_schema]
    return replayed


def _change(name: str, field: str, was: Json, value: Json) -> FieldChange | None:
    if value is was or not _unequal(value, was):
        return None
    return FieldChange(name, field, was, value if value is ABSENT else normalize(value, f"{name}.{field}"))


def _set(fields: dict[str, Json], change: FieldChange | None) -> None:
    if change is None:
        return
    if change.new is ABSENT:
        fields.pop(change.field, None)
    else:
        fields[change.field] = change.new


def _unequal(a: Json, b: Json) -> bool:
    """Whether two values differ: a whole float and its integer do not, True and 1 do, however deep."""
    if a != b:
        return True
    if type(a) is list or type(a) is dict:
        return canonical_json(normalize(a)) != canonical_json(normalize(b))
    return (type(a) is bool) is not (type(b) is bool)


def _touched(
    layout: Layout[Any], before: UnifiedSchema, after: UnifiedSchema
) -> list[tuple[str, Collection[str], dict[str, Json]]]:
    """The sub-schemas a rule may have changed: name, explicitly asserted fields, JSON values."""
    asserted = assertions(after)
    was, now = before.__dict__, after.__dict__
    touched: list[tuple[str, Collection[str], dict[str, Json]]] = [
        (name, asserted.get(name, ()), sub_schema.values(now[name]))
        for name, sub_schema in layout.sub_schemas.items()
        if name in asserted or now[name] is not was[name]
    ]
    # Plain values are few and cheap to compare; only those set by a rule count as values.
    if ROOT in asserted or any([now[name] is not was[name] for name in layout.root]):
        touched.append((ROOT, asserted.get(ROOT, ()), layout.root_values(after)))
    return touched
