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
from .schema import Asserted, UnifiedSchema, assertions, forget_assertions

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
        pydantic_core.PydanticSerializationError: a value has no JSON form.
    """
    if after is before.record:
        return Merged(after, before.values, before.provenance, ())
    asserted = assertions(after)
    if not asserted:  # what `evolve` made is valid, a record copied or made otherwise may be anything
        after = layout.validated(after)
    values, provenance = before.values, before.provenance
    changes: list[FieldChange] = []
    for name in _touched(layout, before.record, after, asserted):
        kept, said = {**values.get(name, _NOTHING)}, {**provenance.get(name, _NOTHING)}
        new = layout.values(after, name)
        changes += _merge_fields(name, asserted.get(name, ()), new, kept, said, assertion, regardless=regardless)
        if said:
            values, provenance = {**values, name: kept}, {**provenance, name: said}
            if not kept:
                del values[name]
    if not asserted or [change for change in changes if change.superseded]:
        after = layout.rebuild(after, values)
    forget_assertions(after)
    return Merged(after, values, provenance, tuple(sorted(changes, key=_PLACE) if len(changes) > 1 else changes))


def difference(before: Values, after: Values) -> tuple[FieldChange, ...]:
    """The fields in which two states differ."""
    return tuple(
        FieldChange(name, field, was, value)
        for name in sorted(before.keys() | after.keys())
        for old, new in [(before.get(name, _NOTHING), after.get(name, _NOTHING))]
        for field in sorted(old.keys() | new.keys())
        for was, value in [(old.get(field, ABSENT), new.get(field, ABSENT))]
        if value != was or _differ_in_type(value, was)
    )


def apply_changes(values: Values, changes: tuple[FieldChange, ...]) -> Values:
    """The state after the changes of an audit entry; how the trail is replayed."""
    replayed = {name: dict(fields) for name, fields in values.items()}
    for change in changes:
        if change.superseded:
            continue
        fields = replayed.setdefault(change.sub_schema, {})
        _put(fields, change.field, change.new)
        if not fields:
            del replayed[change.sub_schema]
    return replayed


def _merge_fields(
    name: str,
    asserted: Collection[str],
    new: dict[str, Json],
    kept: dict[str, Json],
    said: dict[str, Assertion],
    assertion: Assertion,
    *,
    regardless: bool,
) -> list[FieldChange]:
    """Merge the values `new` of a sub-schema into `kept`, and who said them into `said`; returns what changed."""
    changes = []
    for field in dict.fromkeys((*kept, *new, *asserted)):  # in the same order in every process
        was, value = kept.get(field, ABSENT), new.get(field, ABSENT)
        differs = value is not was and (value != was or _differ_in_type(value, was))
        if not (differs or field in asserted):
            continue
        known = said.get(field)
        superseded = known is not None and known.occurred_at > assertion.occurred_at and not regardless
        if differs:
            value = value if value is ABSENT else normalize(value, f"{name}.{field}")
            changes.append(FieldChange(name, field, was, value, superseded))
        if not superseded:
            said[field] = assertion
            if differs:
                _put(kept, field, value)
    return changes


def _put(fields: dict[str, Json], field: str, value: Json) -> None:
    if value is ABSENT:
        fields.pop(field, None)
    else:
        fields[field] = value


def _differ_in_type(a: Json, b: Json) -> bool:
    """Whether equal values differ nevertheless: a whole float and its integer do not, True and 1 do, however deep."""
    if type(a) is list or type(a) is dict:
        return canonical_json(normalize(a)) != canonical_json(normalize(b))
    return (type(a) is bool) is not (type(b) is bool)


def _touched(layout: Layout[Any], before: UnifiedSchema, after: UnifiedSchema, asserted: Asserted) -> list[str]:
    """The sub-schemas that a rule may have changed."""
    was, now = before.__dict__, after.__dict__
    touched = [name for name in layout.sub_schemas if name in asserted or now[name] is not was[name]]
    if ROOT in asserted or [name for name in layout.root if now[name] is not was[name]]:
        touched.append(ROOT)
    return touched
