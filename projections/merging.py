"""Field by field: what a rule asserted, which of it applies, and what changed.

A source may deliver late and out of order. Per field the assertion with the newest occurred time holds, by version
among equal ones; an older one is not applied. Removing a sub-schema asserts each of its fields absent. So with distinct
times every order of the same assertions ends in the same values.
"""

from typing import Any, NamedTuple

from eventstore import normalize

from .record import ABSENT, ROOT, WHOLE, Assertion, FieldChange, Json, Provenance, Values
from .schema import Layout, SubSchema, SubSchemaLayout, UnifiedSchema, assertions, forget_assertions

_NOTHING: dict[str, Any] = {}


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


def merge(layout: Layout, before: Merged, after: UnifiedSchema, assertion: Assertion, *, regardless: bool) -> Merged:
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
    """
    if after is before.record:
        return before._replace(changes=())
    values, provenance = before.values, before.provenance
    changes: list[FieldChange] = []
    for name, asserted, new in _touched(layout, before.record, after):
        old, known = values.get(name, _NOTHING), provenance.get(name, _NOTHING)
        kept, said = dict(old), dict(known)
        for field in asserted.union(new, old):
            was, value = old.get(field, ABSENT), new.get(field, ABSENT)
            differs = value is not was and _unequal(value, was)
            if not differs and field not in asserted:
                continue
            present = known.get(field)
            superseded = present is not None and present.occurred_at > assertion.occurred_at and not regardless
            if differs:
                if value is not ABSENT:
                    value = normalize(value, f"{name}.{field}")
                changes.append(FieldChange(name, field, was, value, superseded))
            if not superseded:
                said[field] = assertion
                kept[field] = value
        provenance = {**provenance, name: said}
        values = {**values, name: {field: value for field, value in kept.items() if value is not ABSENT}}
        if not values[name]:
            del values[name]
    if len(changes) > 1:
        changes.sort(key=lambda change: change[:2])
    record = layout.rebuild(after, values) if any(change.superseded for change in changes) else after
    forget_assertions(record)
    return Merged(record, values, provenance, tuple(changes))


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
        if change.new is ABSENT:
            fields.pop(change.field, None)
        else:
            fields[change.field] = change.new
        if not fields:
            del replayed[change.sub_schema]
    return replayed


def _unequal(a: Json, b: Json) -> bool:
    # A whole float comes back from a store as integer, which is no change; but True is not 1.
    return a != b or (type(a) is bool) is not (type(b) is bool)


def _touched(
    layout: Layout, before: UnifiedSchema, after: UnifiedSchema
) -> list[tuple[str, set[str], dict[str, Json]]]:
    """The sub-schemas a rule may have changed: name, explicitly asserted fields, JSON values."""
    by_name: dict[str, set[str]] = {}
    for name, field in assertions(after):
        by_name.setdefault(name, set()).add(field)
    was, now = before.__dict__, after.__dict__
    touched = [
        (name, by_name.get(name, set()), _values(sub, now[name]))
        for name, sub in layout.sub_schemas.items()
        if name in by_name or now[name] is not was[name]
    ]
    # Plain values are few and cheap to compare; only those set by a rule count as values.
    if layout.root and (ROOT in by_name or any(now[name] is not was[name] for name in layout.root)):
        plain = after.__pydantic_serializer__.to_python(
            after, mode="json", include=after.model_fields_set & layout.root
        )
        touched.append((ROOT, by_name.get(ROOT, set()), plain))
    return touched


def _values(layout: SubSchemaLayout, sub_schema: SubSchema | None) -> dict[str, Json]:
    if sub_schema is None:
        return {}
    values: dict[str, Json] = sub_schema.__pydantic_serializer__.to_python(sub_schema, mode="json", exclude_unset=True)
    if layout.one_value:
        return {WHOLE: values} if values else {}
    return values
