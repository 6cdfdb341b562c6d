import pickle
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from eventstore import Event, EventData, EventRegistry, RecordedEvent, utc_text
from projections import (
    ABSENT,
    ROOT,
    WHOLE,
    Assertion,
    FieldChange,
    Folded,
    InvalidEvolutionError,
    Projection,
    SubSchema,
    UnifiedSchema,
    empty_record,
    fold,
)
from tests.support.clients import (
    NOON,
    AddressRemoved,
    Client,
    Contact,
    Contacted,
    ContactRemoved,
    Corrected,
    Graded,
    Moved,
    PersonId,
    Scored,
    Tagged,
    Visited,
    clients,
    fact,
)
from tests.support.projecting import recorded

MINUTE_0, MINUTE_1, MINUTE_2 = (utc_text(NOON + timedelta(minutes=minute)) for minute in range(3))


def folded(*facts: Event | EventData) -> Folded:
    return fold(clients, empty_record("1"), recorded("1", *facts))


def with_rule(rule: Any, *facts: Event | EventData) -> Folded:
    """The same events, with another rule for `Contacted`."""
    projection = Projection("clients", Client, clients.events, version=1)
    projection.on(Contacted)(rule)
    return fold(projection, empty_record("1"), recorded("1", *(facts or [Contacted(email="a@x.example")])))


def test_events_become_values_with_provenance_and_audit() -> None:
    """One event gives the record its value, who said so, and one audit entry that says all of it."""
    event = recorded("1", fact(Contacted(email="a@x.example"), key="k1"))[0]
    result = fold(clients, empty_record("1"), [event])
    assert result.record.values == {"contact": {"email": "a@x.example"}}
    assert result.record.provenance == {"contact": {"email": Assertion(MINUTE_0, 1)}}
    assert (result.record.version, result.record.event_hash) == (1, event.hash)
    assert result.model == Client(id=PersonId(number="1"), contact=Contact(email="a@x.example"))
    (entry,) = result.audit
    assert entry._asdict() == {
        "client_id": "1",
        "version": 1,
        "event_id": "crm:k1",
        "event_type": "client.contacted",
        "event_hash": event.hash,
        "source": "crm",
        "rule": "contacted",
        "occurred_at": MINUTE_0,
        "recorded_at": event.recorded_at,
        "note": None,
        "changes": (FieldChange("contact", "email", ABSENT, "a@x.example"),),
    }


def test_an_event_without_rule_leaves_an_entry_without_changes() -> None:
    """It counts as folded."""
    result = folded(Visited())
    assert (result.record.version, result.record.values) == (1, {})
    assert [(entry.rule, entry.changes) for entry in result.audit] == [(None, ())]


def test_only_asserted_fields_are_values() -> None:
    """A field nobody asserted is absent, and one that was asserted null is there."""
    result = with_rule(lambda record, event: record.evolve(contact={"email": None}))
    assert result.record.values == {"contact": {"email": None}}


def test_an_assertion_of_the_present_value_is_remembered() -> None:
    """It changes nothing, but from then on an older fact does not override it."""
    result = folded(
        fact(Contacted(email="a"), minute=0), fact(Contacted(email="a"), minute=2), fact(Contacted(email="b"), minute=1)
    )
    assert result.record.values == {"contact": {"email": "a"}}
    assert [entry.changes for entry in result.audit[1:]] == [(), (FieldChange("contact", "email", "a", "b", True),)]
    assert result.record.provenance["contact"]["email"] == Assertion(MINUTE_2, 2)


def test_a_late_event_is_superseded_field_by_field() -> None:
    """It applies where nothing newer is known."""
    result = folded(fact(Contacted(email="new"), minute=2), fact(Contacted(email="old", phone="1"), minute=1))
    assert result.record.values == {"contact": {"email": "new", "phone": "1"}}
    assert result.audit[1].changes == (
        FieldChange("contact", "email", "new", "old", superseded=True),
        FieldChange("contact", "phone", ABSENT, "1"),
    )
    assert result.model.model_dump()["contact"] == {"email": "new", "phone": "1"}


def test_a_late_removal_takes_only_what_is_older() -> None:
    """What was asserted after the removal stays."""
    result = folded(
        fact(Contacted(phone="1"), minute=0), fact(Contacted(email="new"), minute=2), fact(ContactRemoved(), minute=1)
    )
    assert result.record.values == {"contact": {"email": "new"}}


def test_a_removal_holds_against_older_facts() -> None:
    """The fields of a removed sub-schema are asserted absent."""
    result = folded(fact(ContactRemoved(), minute=2), fact(Contacted(email="old"), minute=1))
    assert result.record.values == {}
    assert result.record.provenance["contact"]["email"] == Assertion(MINUTE_2, 1)


def test_one_value_is_superseded_as_a_whole() -> None:
    """Half of an older address never mixes with half of a newer one."""
    result = folded(fact(Moved(street="new", city="n"), minute=2), fact(AddressRemoved(), minute=1))
    assert result.record.values == {"address": {WHOLE: {"street": "new", "city": "n"}}}
    assert result.audit[1].changes[0].field == WHOLE


def test_equal_times_are_decided_by_version() -> None:
    """The event that was recorded later wins."""
    assert folded(Graded(segment="a"), Graded(segment="b")).record.values == {ROOT: {"segment": "b"}}


def test_a_rule_may_apply_late_facts() -> None:
    """`late="apply"` overwrites what a later fact said."""
    result = folded(fact(Contacted(email="new"), minute=2), fact(Corrected(email="right"), minute=1))
    assert result.record.values == {"contact": {"email": "right"}}
    assert not result.audit[1].changes[0].superseded
    assert result.record.provenance["contact"]["email"] == Assertion(MINUTE_1, 2)


@pytest.mark.parametrize(("ahead", "clamped"), [(299, False), (300, False), (301, True)])
def test_a_fact_from_the_future_counts_as_recorded_now(ahead: int, clamped: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """More than five minutes ahead of its recording is a wrong clock, which must not win for ever."""
    event = recorded("1", fact(Graded(segment="a")))[0]
    recorded_at = NOON + timedelta(days=1)
    event = event._replace(occurred_at=utc_text(recorded_at + timedelta(seconds=ahead)))
    result = fold(clients, empty_record("1"), [event])
    said = result.record.provenance[ROOT]["segment"]
    assert said.occurred_at == (event.recorded_at if clamped else event.occurred_at)
    assert (result.audit[0].note, result.audit[0].occurred_at) == ("clamped" if clamped else None, said.occurred_at)


def test_a_number_and_its_whole_float_are_the_same() -> None:
    """Values are kept as every backend gives them back, so 2.0 after 2 is no change."""
    result = folded(Scored(score=2.0), Scored(score=2))
    assert result.record.values == {ROOT: {"score": 2}}
    assert [len(entry.changes) for entry in result.audit] == [1, 0]


@pytest.mark.parametrize(("old", "new"), [(1, True), ([1], [True]), ({"a": [0]}, {"a": [False]}), (0, False)])
def test_numbers_and_booleans_are_different_values(old: Any, new: Any) -> None:
    """Python holds 1 and True to be equal, JSON does not, however deep."""

    class Anything(SubSchema):
        value: Any = None

    class Holder(UnifiedSchema):
        id: PersonId
        any: Anything | None = None

    class Told(Event):
        value: Any = None

    registry = EventRegistry()
    registry.register("any.told")(Told)
    holders = Projection("holders", Holder, registry, version=1)
    holders.on(Told)(lambda record, event: record.evolve(any={"value": event.value}))
    template = recorded("1", Visited(), Visited())
    told = [
        event._replace(event_type="any.told", data={"value": value})
        for event, value in zip(template, (old, new), strict=True)
    ]
    changes = fold(holders, empty_record("1"), told).audit[1].changes
    assert [(repr(change.old), repr(change.new)) for change in changes] == [(repr(old), repr(new))]


def test_a_rule_may_copy_instead_of_evolve() -> None:
    """What differs then counts as asserted."""
    result = with_rule(lambda record, event: record.model_copy(update={"segment": "gold"}))
    assert result.record.values == {ROOT: {"segment": "gold"}}
    assert result.record.provenance[ROOT]["segment"] == Assertion(MINUTE_0, 1)


def test_a_rule_may_make_a_new_record() -> None:
    """What the new one lacks is removed."""
    projection = Projection("clients", Client, clients.events, version=1)
    projection.on(Contacted)(lambda record, event: record.evolve(contact={"email": event.email}, segment="gold"))
    projection.on(Graded)(lambda record, event: Client(id=record.id, segment=event.segment))
    result = fold(projection, empty_record("1"), recorded("1", Contacted(email="a"), Graded(segment="b")))
    assert result.record.values == {ROOT: {"segment": "b"}}


def test_a_rule_may_return_the_record_it_was_given() -> None:
    """Nothing changed, nothing asserted."""
    result = with_rule(lambda record, event: record)
    assert (result.record.version, result.record.values, result.record.provenance) == (1, {}, {})


def test_a_fold_goes_on_from_the_middle() -> None:
    """The record so far is all that it needs."""
    stream = recorded("1", Contacted(email="a"), Tagged(tags=["x", "y"]), Contacted(phone="1"))
    at_once = fold(clients, empty_record("1"), stream)
    first = fold(clients, empty_record("1"), stream[:1])
    assert fold(clients, first.record, stream[1:]).record == at_once.record


def test_a_record_that_does_not_fit_the_schema_cannot_be_gone_on_from() -> None:
    """The caller of the pure fold is told; the projector parks."""
    broken = empty_record("1")._replace(values={"contact": {"email": 5}})
    with pytest.raises(ValidationError):
        fold(clients, broken, [])


def test_the_record_given_is_left_as_it_is() -> None:
    """A fold never changes what it was given."""
    before = fold(clients, empty_record("1"), recorded("1", Contacted(email="a"), Tagged(tags=["x"]))).record
    frozen = pickle.dumps(before)
    later: list[RecordedEvent] = recorded("1", Contacted(email="b"), Tagged(tags=[]), ContactRemoved(), first=3)
    fold(clients, before, later)
    assert pickle.dumps(before) == frozen


def test_evolve_errors_say_what_is_wrong() -> None:
    """The rule's author reads path and problem."""
    with pytest.raises(
        InvalidEvolutionError, match=r"evolve\(contact\.mail=\.\.\.\): the sub-schema has no such field"
    ):
        Client(id=PersonId(number="1")).evolve(contact={"mail": "a"})
